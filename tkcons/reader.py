"""All stored messages as JSON Lines; a stream never holds more than a part of them."""

from collections.abc import Iterable, Iterator
from typing import Any

import msgspec
from django.db import router
from django.db.models import QuerySet
from django.db.models.functions import Length

from tk.access import Caller, require
from tk.record import load_headers, text_or_base64
from tkcons.masking import mask
from tkcons.models import Message, Position

VIEW = "tkcons.view_payload"
PAGE = 1_000  # rows of one query in a stream, at most: primary keys that it covers
PAGE_BYTES = 4_194_304  # of values in one chunk: a message of 1 MiB of control characters is six times as long in JSON

_encoder = msgspec.json.Encoder()


def as_dict(message: Message) -> dict[str, Any]:
    """A message for JSON, masked; timestamp in ms. `encoding` is base64 where the value is not UTF-8; so for the key."""
    hidden = mask()
    value, encoding = text_or_base64(hidden.data(_bytes(message.value)))
    key, key_encoding = text_or_base64(hidden.data(_bytes(message.key)))
    headers = [
        dict(zip(("name", "value", "encoding"), (name, *text_or_base64(data)), strict=True))
        for name, data in hidden.headers(load_headers(message.headers))
    ]
    row: dict[str, Any] = {
        "topic": message.position.topic,
        "partition": message.position.partition,
        "offset": message.offset,
        "timestamp": message.timestamp,
        "key": key,
        "value": value,
        "headers": [{name: part for name, part in header.items() if part or name != "encoding"} for header in headers],
    }
    if key_encoding:
        row["key_encoding"] = key_encoding
    if encoding:
        row["encoding"] = encoding
    return row


def json_lines(caller: Caller) -> Iterator[bytes]:
    """All messages stored by now that the caller may read, in the order of storing, a JSON object a line.

    Chunks are as long as `parts` says. Raises Unauthenticated or Forbidden before the first one.
    """
    require(caller, VIEW)
    rows = _visible(caller)
    return (lines(part) for part in parts(rows))


def lines(messages: Iterable[Message]) -> bytes:
    """JSON Lines."""
    return b"".join(_encoder.encode(as_dict(message)) + b"\n" for message in messages)


def parts(rows: QuerySet[Message], low: int | None = None, high: int | None = None) -> Iterator[QuerySet[Message]]:
    """These rows, oldest first, up to the newest of now, in queries that each give something. low, high: of primary keys.

    A part holds at most PAGE messages and, but for a single longer one, PAGE_BYTES of values.
    """
    keys = rows.order_by("pk").values_list("pk", flat=True)
    first, last = keys.first(), keys.last()
    if first is None or last is None:
        return
    end = last + 1 if high is None else min(high, last + 1)
    for start in range(first if low is None else max(low, first), end, PAGE):
        page = rows.filter(pk__gte=start, pk__lt=min(start + PAGE, end)).order_by("pk")
        for lowest, highest in _runs(list(page.values_list("pk", Length("value")))):
            yield page.filter(pk__gte=lowest, pk__lte=highest)


def _runs(sizes: list[tuple[int, int | None]]) -> Iterator[tuple[int, int]]:
    """The first and the last key of each run of rows whose values are together at most PAGE_BYTES long."""
    total, first, previous = 0, None, None
    for pk, size in sizes:
        total += size or 0
        if first is not None and previous is not None and total > PAGE_BYTES:
            yield first, previous
            total, first = size or 0, None
        first = pk if first is None else first
        previous = pk
    if first is not None and previous is not None:
        yield first, previous


def _bytes(data: Any) -> bytes | None:
    return None if data is None else bytes(data)  # a memoryview on PostgreSQL


def _messages() -> QuerySet[Message]:
    return Message.objects.using(router.db_for_write(Message)).select_related("position")


def _visible(caller: Caller) -> QuerySet[Message]:
    """The messages of the topics that the caller's token names; all of them where it names none."""
    if not caller.topics:
        return _messages()
    positions = Position.objects.using(router.db_for_write(Position)).values_list("pk", "topic")
    return _messages().filter(position_id__in=[pk for pk, topic in positions if caller.sees(topic)])
