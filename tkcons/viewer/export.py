"""What a search finds, whole and oldest first, as CSV, JSON Lines or plain text."""

import csv
import io
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import msgspec

from tk.access import Caller, require
from tkcons import reader
from tkcons.models import Message
from tkcons.viewer import store
from tkcons.viewer.query import Query, visible
from tkcons.viewer.rows import Place, as_time, fetch
from tkcons.viewer.search import VIEW

EXPORT = "tkcons.export"
COLUMNS = ("topic", "partition", "offset", "timestamp", "stored", "group", "key", "value", "encoding", "headers")
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")  # what a spreadsheet takes for the beginning of one

_encode = msgspec.json.Encoder().encode
Format = Callable[[Iterable[Message]], bytes]


def export(caller: Caller, query: Query, kind: str) -> Iterator[bytes]:
    """The messages stored by now that match, in chunks of bounded size. kind: a key of FORMATS.

    Raises Unauthenticated or Forbidden before the first chunk.
    """
    require(caller, VIEW)
    require(caller, EXPORT)
    chosen = visible(store.places(), query, caller)
    head, write = FORMATS[kind]

    def chunks() -> Iterator[bytes]:
        yield head
        for part in _parts(query, chosen):
            yield write(part)

    return chunks()


def _parts(query: Query, chosen: dict[int, Place]) -> Iterator[list[Message]]:
    """What matches is decided on masked rows, as in a search."""
    low, high = store.keys(query.since, query.until, store.using())
    for part in reader.parts(store.messages(), low, high):
        rows = part.filter(query.condition(), position__in=list(chosen)).select_related("position")
        if query.is_scan:
            rows = rows.filter(pk__in=[row.pk for row in fetch(rows, chosen, whole=True) if query.matches(row)])
        messages = list(rows)
        if messages:
            yield messages


def _csv(messages: Iterable[Message]) -> bytes:
    text = io.StringIO()
    writer = csv.writer(text)
    for message in messages:
        row = _row(message)
        writer.writerow([_neutral(row[name]) for name in COLUMNS])
    return text.getvalue().encode()


def _text(messages: Iterable[Message]) -> bytes:
    """A line a message: its place, time, key, value; what would break the line is escaped."""
    lines = []
    for message in messages:
        row = _row(message)
        place = f"{row['topic']}[{row['partition']}]@{row['offset']}"
        parts = (place, row["timestamp"], row["key"], row["value"])
        lines.append("\t".join("" if part is None else _line(part) for part in parts) + "\n")
    return "".join(lines).encode()


def _row(message: Message) -> dict[str, Any]:
    row = reader.as_dict(message)
    time = None if message.timestamp is None else as_time(message.timestamp)
    return row | {
        "timestamp": time.isoformat(timespec="milliseconds") if time else message.timestamp,
        "stored": message.stored_at.isoformat(timespec="milliseconds"),
        "group": message.position.group,
        "encoding": row.get("encoding", "" if row["value"] is not None else "tombstone"),
        "headers": _encode(row["headers"]).decode() if row["headers"] else "",
    }


def _neutral(value: object) -> object:
    """Text that a spreadsheet would run as a formula begins with an apostrophe."""
    return f"'{value}" if isinstance(value, str) and value.lstrip(" ").startswith(_FORMULA) else value


def _line(value: object) -> str:
    text = str(value)
    return text if text.isprintable() else "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


# Name -> what stands first, and how rows are written.
FORMATS: dict[str, tuple[bytes, Format]] = {
    "csv": (",".join(COLUMNS).encode() + b"\r\n", _csv),
    "jsonl": (b"", reader.lines),
    "txt": (b"", _text),
}
TYPES = {"csv": "text/csv; charset=utf-8", "jsonl": "application/x-ndjson", "txt": "text/plain; charset=utf-8"}
