"""A stored message as a list shows it: cut in the database, so that a page never loads a megabyte a line."""

import codecs
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

import msgspec
from django.db.models import BinaryField, QuerySet
from django.db.models.functions import Length, Substr

from tk.record import Headers, load_headers
from tkcons.masking import HIDDEN, Mask, mask
from tkcons.models import Message

VALUE = 600  # bytes of a value that a row has
KEY = 200
WHOLE = 65_536  # bytes that are read where a mask or a text must be looked for; longer values are not shown in rows
HEADERS = 8  # of a row
HEADER = 120  # characters of a header's value
BINARY = 48  # bytes of binary data, in hex; on a page of its own HEX
HEX = 1_024

FIELDS = ("pk", "position_id", "offset", "timestamp", "stored_at", "headers")


class Place(NamedTuple):
    """A position as rows need it."""

    pk: int
    group: str
    topic: str
    topic_id: str
    partition: int
    start_offset: int
    next_offset: int


class Text(msgspec.Struct, frozen=True, omit_defaults=True):
    """Bytes for people: text, or hex where they are not UTF-8. size: of the whole, in bytes."""

    text: str
    size: int
    binary: bool = False
    cut: bool = False


class Header(msgspec.Struct, frozen=True):
    name: str
    value: str | None


class Row(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a line of the page shows; the same for the first page and, as JSON, for what comes live. Times in ms."""

    position: int
    group: str
    topic: str
    topic_id: str
    partition: int
    offset: int
    stored: int
    timestamp: int | None
    key: Text | None
    value: Text | None  # None: a tombstone
    headers: list[Header] = []
    more_headers: int = 0

    @property
    def stored_at(self) -> datetime:
        return datetime.fromtimestamp(self.stored / 1000, UTC)

    @property
    def time(self) -> datetime | None:
        """The message's own time; a producer may have written a number that is none."""
        return None if self.timestamp is None else as_time(self.timestamp)


class Found(NamedTuple):
    """A row of the store: what queries look at, and beside it how much of the value is there."""

    pk: int
    place: Place
    offset: int
    timestamp: int | None
    stored_at: datetime
    headers: Headers
    key: bytes | None
    key_size: int
    value: bytes | None  # the first WHOLE bytes where the whole is looked at, else the first VALUE
    size: int

    def row(self) -> Row:
        """For the page, masked."""
        hidden = mask()
        headers = hidden.headers(self.headers)
        return Row(
            position=self.place.pk,
            group=self.place.group,
            topic=self.place.topic,
            topic_id=self.place.topic_id,
            partition=self.place.partition,
            offset=self.offset,
            stored=int(self.stored_at.timestamp() * 1000),
            timestamp=self.timestamp,
            key=_text(self.key, self.key_size, KEY, hidden),
            value=_text(self.value, self.size, VALUE, hidden),
            headers=[Header(name[:HEADER], _header(value)) for name, value in headers[:HEADERS]],
            more_headers=max(0, len(headers) - HEADERS),
        )


def as_time(milliseconds: int) -> datetime | None:
    """The time of a Kafka timestamp; None for what is no time of the calendar."""
    try:
        return datetime.fromtimestamp(milliseconds / 1000, UTC)
    except (OverflowError, ValueError, OSError):
        return None


def fetch(messages: QuerySet[Message], places: dict[int, Place], *, whole: bool = False) -> list[Found]:
    """The rows of a query, in its order. whole: values up to WHOLE bytes, to look into."""
    length = WHOLE if whole or mask() else VALUE
    cut = messages.annotate(
        head=Substr("value", 1, length, output_field=BinaryField()),
        size=Length("value"),
        key_head=Substr("key", 1, WHOLE, output_field=BinaryField()),
        key_size=Length("key"),
    )
    rows: Iterable[Sequence[Any]] = cut.values_list(*FIELDS, "key_head", "key_size", "head", "size")
    return [
        Found(
            pk,
            places[position],
            offset,
            timestamp,
            stored_at,
            load_headers(headers),
            _bytes(key, key_size),
            key_size or 0,
            _bytes(value, size),
            size or 0,
        )
        for pk, position, offset, timestamp, stored_at, headers, key, key_size, value, size in rows
        if position in places
    ]


def text_of(data: bytes, size: int, limit: int) -> Text:
    """The beginning of `data`, which is itself the beginning of `size` bytes, in at most `limit` bytes."""
    head = data[:limit]
    cut = size > len(head)
    try:
        text = codecs.getincrementaldecoder("utf-8")().decode(head, final=not cut)
    except UnicodeDecodeError:
        part = data[: min(limit, BINARY if limit <= VALUE else HEX)]
        return Text(part.hex(" "), size, binary=True, cut=size > len(part))
    return Text(text, size, cut=cut)


def beginning(data: bytes | None, limit: int) -> Text | None:
    """The same of bytes that are all there; None of a null."""
    return None if data is None else text_of(data, len(data), limit)


def _text(data: bytes | None, size: int, limit: int, hidden: Mask) -> Text | None:
    if data is None:
        return None
    if hidden:
        if size > len(data):  # too long to be looked through here: its own page shows it
            return Text(HIDDEN, size, cut=True)
        whole = hidden.data(data) or b""
        if whole is not data:
            return text_of(whole, len(whole), limit)
    return text_of(data, size, limit)


def _header(value: bytes | None) -> str | None:
    if value is None:
        return None
    return text_of(value, len(value), HEADER).text


def _bytes(data: Any, size: int | None) -> bytes | None:
    """What was cut of a column that has `size` bytes, None where it is null: SQLite cuts null from no bytes."""
    return None if size is None else bytes(data or b"")  # a memoryview on PostgreSQL
