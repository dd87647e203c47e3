"""The stored messages, read by keyset: any page costs the same, and a stream never holds more than a page."""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import msgspec
from django.db import router
from django.db.models import QuerySet
from django.db.models.functions import Length

from tk.access import Caller, require
from tk.record import load_headers, text_or_base64
from tkcons.models import Message, Position

VIEW = "tkcons.view_payload"
PAGE = 1_000  # rows of one query in a stream
PAGE_BYTES = 4_194_304  # of values in one chunk: a message of 1 MiB of control characters is six times as long in JSON

_encoder = msgspec.json.Encoder()


def as_dict(message: Message) -> dict[str, Any]:
    """A message for JSON; timestamp in ms. `encoding` is base64 where the value is not UTF-8; likewise for the key."""
    value, encoding = text_or_base64(_bytes(message.value))
    key, key_encoding = text_or_base64(_bytes(message.key))
    headers = [
        dict(zip(("name", "value", "encoding"), (name, *text_or_base64(data)), strict=True))
        for name, data in load_headers(message.headers)
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

    A chunk holds at most PAGE messages and, but for a single longer one, PAGE_BYTES of values.
    Raises Unauthenticated or Forbidden before the first chunk.
    """
    require(caller, VIEW)
    rows = _visible(caller).order_by("pk")

    def chunks() -> Iterator[bytes]:
        newest = rows.values_list("pk", flat=True).last() or 0
        last = 0
        while sizes := list(rows.filter(pk__gt=last, pk__lte=newest).values_list("pk", Length("value"))[:PAGE]):
            for end in _ends(sizes):
                part = rows.filter(pk__gt=last, pk__lte=end)
                yield b"".join(_encoder.encode(as_dict(message)) + b"\n" for message in part)
                last = end

    return chunks()


def _ends(sizes: list[tuple[int, int | None]]) -> Iterator[int]:
    """The last key of each run of rows whose values are together at most PAGE_BYTES long."""
    total, previous = 0, None
    for pk, size in sizes:
        total += size or 0
        if previous is not None and total > PAGE_BYTES:
            yield previous
            total = size or 0
        previous = pk
    if previous is not None:
        yield previous


def latest(caller: Caller, count: int, before: int | None = None) -> list[dict[str, Any]]:
    """The newest messages (older than the one with the key `before`), newest first, for a page.

    Raises Unauthenticated or Forbidden.
    """
    require(caller, VIEW)
    rows = _visible(caller).order_by("-pk")
    if before is not None:
        rows = rows.filter(pk__lt=before)
    return [_for_page(message) for message in rows[:count]]


def _for_page(message: Message) -> dict[str, Any]:
    time = None if message.timestamp is None else _time(message.timestamp)
    return as_dict(message) | {"id": message.pk, "time": time, "size": len(_bytes(message.value) or b"")}


def _time(milliseconds: int) -> datetime | None:
    """A producer may have written any number: what is no time of the calendar is shown as none."""
    try:
        return datetime.fromtimestamp(milliseconds / 1000, UTC)
    except (OverflowError, ValueError, OSError):
        return None


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
