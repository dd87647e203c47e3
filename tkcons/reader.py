"""The stored messages, read by keyset: any page costs the same, and a stream never holds more than a page."""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import msgspec
from django.db import router
from django.db.models import QuerySet

from tk.access import Caller, require
from tk.record import load_headers, text_or_base64
from tkcons.models import Message

VIEW = "tkcons.view_payload"
PAGE = 1_000  # rows of one query in a stream

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
    """All stored messages in the order of storing, a JSON object a line, a page of lines a chunk.

    Raises Unauthenticated or Forbidden before the first chunk.
    """
    require(caller, VIEW)

    def chunks() -> Iterator[bytes]:
        last = 0
        while page := list(_messages().filter(pk__gt=last).order_by("pk")[:PAGE]):
            last = page[-1].pk
            yield b"".join(_encoder.encode(as_dict(message)) + b"\n" for message in page)

    return chunks()


def latest(caller: Caller, count: int, before: int | None = None) -> list[dict[str, Any]]:
    """The newest messages (older than the one with the key `before`), newest first, for a page.

    Raises Unauthenticated or Forbidden.
    """
    require(caller, VIEW)
    rows = _messages().order_by("-pk")
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
