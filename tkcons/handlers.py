"""Handlers: functions that Django apps write in `kafka_handlers.py`, each called for the messages of its own group."""

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeVar

from django.core.exceptions import ImproperlyConfigured

from tk.record import check_topic
from tkcons.received import Decode, decoder

Function = TypeVar("Function", bound=Callable[..., Any])
Start = str | int | datetime  # "earliest", "latest", an offset, or a time


@dataclass(frozen=True)
class Handler:
    """A function and how it is called; see `handler`."""

    function: Callable[..., Any]
    group: str
    topics: tuple[str, ...]
    batch: int | None
    decode: Decode
    tries: int | None
    pauses: tuple[float, float]
    dead_letter: str | None
    timeout: float
    using: str | None
    start: Start | None

    @property
    def name(self) -> str:
        return f"{self.function.__module__}.{self.function.__qualname__}"

    @property
    def is_async(self) -> bool:
        return inspect.iscoroutinefunction(self.function)

    def pause(self, tries: int) -> float:
        """Seconds to wait after so many tries."""
        first, longest = self.pauses
        return float(min(longest, first * 2 ** min(tries - 1, 30)))


registry: dict[str, Handler] = {}  # by group


def handler(
    *topics: str,
    group: str,
    batch: int | None = None,
    decode: Any = bytes,
    tries: int | None = 5,
    pauses: tuple[float, float] = (1.0, 60.0),
    dead_letter: str | None = None,
    timeout: float = 300.0,
    using: str | None = None,
    start: Start | None = None,
) -> Callable[[Function], Function]:
    """Call the function, plain or async, for each message of these topics, in the order of each partition.

    It runs in the transaction that moves the group's position: what it writes to that database is there exactly once.
    What it does elsewhere may be repeated after a failure.

    group: the Kafka consumer group, of this handler alone.
    batch: give it a sequence of up to so many messages a call (tkcons.received.Messages); None: one message a call.
    decode: what a message's value becomes: see tkcons.received.decoder.
    tries: calls that may fail for one message, before it becomes a dead letter; None: no limit, the partition waits.
    pauses: seconds after the first failed try, doubled after each one more, and the longest. The partition waits meanwhile.
    dead_letter: the topic that dead letters are sent to as well; they are in the database in any case.
    timeout: seconds that a call may take. An async function is cancelled; a plain one cannot be: `manage.py consume` ends
        its process, which counts as a failed try, and another takes over.
    using: the database of the positions and of the transaction (default: the router's).
    start: where the group begins at first contact: "earliest", "latest", an offset, or an aware datetime (default:
        TKCONS["START"]).
    """
    if not topics:
        raise ImproperlyConfigured(f"The handler of group {group!r} names no topic.")
    for topic in (*topics, *([dead_letter] if dead_letter is not None else [])):
        check_topic(topic)
    if dead_letter in topics:
        raise ImproperlyConfigured(f"The handler of group {group!r} would get its own dead letters from {dead_letter}.")
    if (batch is not None and batch < 1) or (tries is not None and tries < 1):
        raise ImproperlyConfigured(f"The handler of group {group!r}: batch and tries are 1 or more, or None.")
    decode = decoder(decode)

    def register(function: Function) -> Function:
        made = Handler(function, group, topics, batch, decode, tries, pauses, dead_letter, timeout, using, start)
        known = registry.setdefault(group, made)
        if known.name != made.name:
            raise ImproperlyConfigured(f"The group {group!r} has a handler already: {known.name}.")
        registry[group] = made
        return function

    return register
