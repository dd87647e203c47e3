"""What Django code calls: produce(), produce_many(), aproduce()."""

import sys
import warnings
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from typing import Any

from django.conf import settings as django_settings
from django.db import connections

from tk import aproducer, pipeline, producer
from tk.errors import (
    InvalidHeader,
    InvalidKey,
    InvalidPartition,
    InvalidRecord,
    InvalidTimestamp,
    InvalidTopic,
    TkError,
)
from tk.pipeline import WINDOW
from tk.record import Headers, Receipt, Record, check
from tk.serializers import Serializer, serialize

_HEADERS = "Headers are pairs of a name and text, bytes or None."

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
    """A Record of Python values; timestamp in ms. Raises InvalidRecord where a part is of another type, or cannot be
    written as bytes."""
    _whole(partition, InvalidPartition)
    _whole(timestamp, InvalidTimestamp)
    if not isinstance(topic, str):
        raise InvalidTopic
    return Record(topic, serialize(value, topic, serializer), _key(key), _headers(headers), partition, timestamp)


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
    return await aproducer.send(
        record(topic, value, key=key, headers=headers, partition=partition, timestamp=timestamp, serializer=serializer)
    )


def produce_many(records: Iterable[Record]) -> list[Receipt | TkError]:
    """Send many records, in their order and pipelined; give a receipt or an error for each, in order.

    Raises nothing for a record that fails: look at what is given. A full queue is waited for. Records are made with
    `Record(...)`, or with tk.api.record() of Python values. Order holds for each partition, but a record that fails does not
    hold back those after it.
    """
    _warn_in_transaction()
    return [outcome for flight in pipeline.sending(_checked(records)) for outcome in flight.outcomes]


def _checked(records: Iterable[Record]) -> Iterator[list[pipeline.Item]]:
    waiting = iter(records)
    while window := list(islice(waiting, WINDOW)):
        yield [_error(record) or record for record in window]


def _error(record: Record) -> TkError | None:
    try:
        check(record)
    except TkError as error:
        return error
    return None


def _whole(number: int | None, wrong: type[InvalidRecord]) -> None:
    if number is not None and not isinstance(number, int):
        raise wrong(f"It is a whole number, not a {type(number).__name__}.")


def _key(key: str | bytes | None) -> bytes | None:
    if key is None or isinstance(key, bytes):
        return key
    if not isinstance(key, str):
        raise InvalidKey(f"A key is text or bytes, not a {type(key).__name__}: give str(key).")
    try:
        return key.encode()
    except UnicodeEncodeError as error:
        raise InvalidKey("The key cannot be written as UTF-8.") from error


def _headers(headers: HeadersLike | None) -> Headers:
    if not headers:
        return ()
    pairs = headers.items() if isinstance(headers, Mapping) else headers
    try:
        made = tuple((name, value.encode() if isinstance(value, str) else value) for name, value in pairs)
    except (TypeError, ValueError) as error:
        raise InvalidHeader(_HEADERS) from error
    if not all(isinstance(name, str) and (value is None or isinstance(value, bytes)) for name, value in made):
        raise InvalidHeader(_HEADERS)
    return made


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
