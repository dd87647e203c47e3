"""What Django code calls: produce(), aproduce()."""

import asyncio
import sys
import warnings
from collections.abc import Iterable, Mapping
from typing import Any

from django.conf import settings as django_settings
from django.db import connections

from tk import producer
from tk.conf import settings
from tk.errors import InvalidHeader, InvalidKey, OutcomeUnknown, TkError
from tk.record import Headers, Receipt, Record
from tk.serializers import Serializer, serialize

HeadersLike = Mapping[str, str | bytes | None] | Iterable[tuple[str, str | bytes | None]]


def record(
    topic: str,
    value: Any,
    *,
    key: str | bytes | None = None,
    headers: HeadersLike | None = None,
    partition: int | None = None,
    timestamp: int | None = None,
    serializer: Serializer | None = None,
) -> Record:
    """A Record of Python values; timestamp in ms. Raises InvalidRecord where a part cannot be written as bytes."""
    try:
        encoded_key = key.encode() if isinstance(key, str) else key
    except UnicodeEncodeError as error:
        raise InvalidKey("The key cannot be written as UTF-8.") from error
    return Record(topic, serialize(value, topic, serializer), encoded_key, _headers(headers), partition, timestamp)


def produce(
    topic: str,
    value: Any,
    *,
    key: str | bytes | None = None,
    headers: HeadersLike | None = None,
    partition: int | None = None,
    timestamp: int | None = None,
    serializer: Serializer | None = None,
) -> Receipt:
    """Send one message and return when the brokers have it (acks=all); `value` as `serializer` (of value and topic)
    or TK["SERIALIZERS"] writes it, else tk.serializers.

    Raises InvalidRecord where it breaks a rule; NotSent (QueueFull) where it was certainly not sent; OutcomeUnknown
    where it may or may not be there; BrokerRefused.
    """
    _warn_in_transaction()
    made = record(
        topic, value, key=key, headers=headers, partition=partition, timestamp=timestamp, serializer=serializer
    )
    return producer.send(made)


async def aproduce(
    topic: str,
    value: Any,
    *,
    key: str | bytes | None = None,
    headers: HeadersLike | None = None,
    partition: int | None = None,
    timestamp: int | None = None,
    serializer: Serializer | None = None,
) -> Receipt:
    """`produce` for asynchronous code; raises what it raises."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[Receipt | TkError] = loop.create_future()

    def resolve(outcome: Receipt | TkError) -> None:
        if not future.done():
            future.set_result(outcome)

    def done(outcome: Receipt | TkError) -> None:
        loop.call_soon_threadsafe(resolve, outcome)

    made = record(
        topic, value, key=key, headers=headers, partition=partition, timestamp=timestamp, serializer=serializer
    )
    # The first look at a topic asks the cluster, which may take a moment: not on the loop's thread.
    await asyncio.to_thread(producer.submit, made, done)
    try:
        outcome = await asyncio.wait_for(future, settings.REQUEST_TIMEOUT)
    except TimeoutError:
        raise OutcomeUnknown from None
    if isinstance(outcome, TkError):
        raise outcome
    return outcome


def _headers(headers: HeadersLike | None) -> Headers:
    if not headers:
        return ()
    pairs = headers.items() if isinstance(headers, Mapping) else headers
    try:
        return tuple((name, value.encode() if isinstance(value, str) else value) for name, value in pairs)
    except (TypeError, ValueError, AttributeError) as error:
        raise InvalidHeader("Headers are pairs of a name and text, bytes or None.") from error


_warned: set[tuple[str, int]] = set()


def _warn_in_transaction() -> None:
    """Once per call site, while DEBUG is on: a message sent inside a transaction stays when that rolls back."""
    if not django_settings.DEBUG or not any(c.in_atomic_block for c in connections.all(initialized_only=True)):
        return
    frame = sys._getframe(2)
    site = (frame.f_code.co_filename, frame.f_lineno)
    if site not in _warned:
        _warned.add(site)
        warnings.warn(
            "produce() inside a database transaction sends even if that rolls back; publish() sends if it commits.",
            RuntimeWarning,
            stacklevel=3,
        )
