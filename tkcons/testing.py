"""For the tests of handlers: call them as their group would, without Kafka."""

import dataclasses
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from confluent_kafka import TIMESTAMP_CREATE_TIME, Message
from django.utils import timezone

from tk.serializers import to_bytes
from tkcons.errors import RetryLater, UnknownGroup
from tkcons.handlers import Handler, registry
from tkcons.models import DeadLetter
from tkcons.sinks.base import Batch, Claim, Place
from tkcons.sinks.handler import HandlerSink

TOPIC_ID = "test"


class Consumed(NamedTuple):
    """handled: messages that the handler took; dead_letters: what became of the others, in their order."""

    handled: int
    dead_letters: list[DeadLetter]


def run_consumer(function: Callable[..., Any], messages: Iterable[Any]) -> Consumed:
    """Give messages to a handler: decoded, in transactions, cut and tried as in production, but without pauses.

    messages: values as tk.produce() takes them (a dict becomes JSON), or confluent_kafka's Messages, whose key, value,
    headers and timestamp are kept. Calls go on in one partition of the handler's first topic. Works inside TestCase.
    Dead letters are stored, not sent. Without a limit of tries, the handler's own error is raised at its first failure.
    Raises UnknownGroup when the function is no handler.
    """
    made = _handler(function)
    sink = HandlerSink(made.group, handler=dataclasses.replace(made, dead_letter=None, pauses=(0.0, 0.0)))
    place = Place(made.topics[0], TOPIC_ID, 0)
    sink.begin({place: 0})
    claim = sink.claim([place])[place]
    first = claim.next_offset
    batch = [_message(place.topic, first + number, given) for number, given in enumerate(messages)]
    end = first + len(batch)
    position = first
    while position < end:
        left = batch[position - first :]
        try:
            position = sink.write([Batch(place, Claim(claim.generation, position), left, end)])
        except RetryLater as error:
            if made.tries is None and error.__cause__ is not None:
                raise error.__cause__ from None
            position = position if error.next_offset is None else error.next_offset
    letters = DeadLetter.objects.using(sink.using).filter(group=made.group, topic_id=TOPIC_ID, offset__gte=first)
    found = list(letters.order_by("offset"))
    return Consumed(len(batch) - len(found), found)


def _handler(function: Callable[..., Any]) -> Handler:
    for made in registry.values():
        if made.function is function:
            return made
    raise UnknownGroup(f"{function!r} is no handler: decorate it with tkcons.handler.")


def _message(topic: str, offset: int, given: Any) -> Message:
    now = (TIMESTAMP_CREATE_TIME, int(timezone.now().timestamp() * 1000))
    parts: dict[str, Any] = {"topic": topic, "partition": 0, "offset": offset}
    if callable(getattr(given, "value", None)) and callable(getattr(given, "headers", None)):
        parts |= {"key": given.key(), "value": given.value(), "headers": list(given.headers() or ())}
        return Message(timestamp=given.timestamp() or now, **parts)
    return Message(timestamp=now, value=to_bytes(given), **parts)
