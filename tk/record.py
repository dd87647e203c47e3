"""A record on its way to Kafka, the rules it must keep, and the receipt of the broker's acknowledgement."""

import base64
import re
import uuid
from collections.abc import Collection
from functools import lru_cache
from typing import Annotated

import msgspec
from django.utils.translation import gettext_noop as _

from tk.conf import settings
from tk.errors import (
    InvalidHeader,
    InvalidKey,
    InvalidPartition,
    InvalidTimestamp,
    InvalidTopic,
    MissingMessage,
    TooLarge,
)

# The id that makes a repeat recognisable; consumers of tkcons store one event once. Clients may not send it.
EVENT_ID_HEADER = "tk-event-id"

Headers = tuple[tuple[str, bytes | None], ...]

# Kafka's rule: org.apache.kafka.common.internals.Topic, LEGAL_CHARS and MAX_NAME_LENGTH.
_TOPIC = re.compile(r"[a-zA-Z0-9._-]{1,249}")


class Record(msgspec.Struct, frozen=True, gc=False):
    """What is sent: `value` None is a tombstone; partition None: by the key's hash; timestamp in ms, None: now."""

    topic: str
    value: bytes | None
    key: bytes | None = None
    headers: Headers = ()
    partition: int | None = None
    timestamp: int | None = None


class Text(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    """A record of text alone, to a topic that is known beside it: as JSON has it, and as the client takes and encodes it."""

    value: Annotated[str, msgspec.Meta(min_length=1)]
    key: str | None = None
    headers: dict[str, str | None] | None = None

    def record(self, topic: str) -> Record:
        headers = (self.headers or {}).items()
        return Record(
            topic,
            self.value.encode(),
            self.key if self.key is None else self.key.encode(),
            tuple([(name, text if text is None else text.encode()) for name, text in headers]),
        )


class Receipt(msgspec.Struct, frozen=True, gc=False):
    """Where the brokers have put a record; timestamp in ms."""

    topic: str
    partition: int
    offset: int
    timestamp: int


@lru_cache(maxsize=1_000)
def check_topic(name: str) -> None:
    """Raise InvalidTopic unless Kafka would take the name."""
    if not _TOPIC.fullmatch(name) or name in {".", ".."}:
        raise InvalidTopic


def check(record: Record) -> None:
    """Raise an InvalidRecord that says which rule the record breaks. Touches neither Kafka nor the database."""
    check_topic(record.topic)
    value, key = record.value, record.key
    if value is None and key is None:
        raise MissingMessage(_("There is no message. A tombstone (a null message) needs a key."))
    if value is not None and len(value) > settings.MAX_VALUE_BYTES:
        raise TooLarge(
            _("The message has %(size)d bytes; at most %(most)d are taken."),
            size=len(value),
            most=settings.MAX_VALUE_BYTES,
        )
    if key is not None and len(key) > settings.MAX_KEY_BYTES:
        raise InvalidKey(
            _("The key has %(size)d bytes; at most %(most)d are taken."), size=len(key), most=settings.MAX_KEY_BYTES
        )
    if record.headers:
        check_headers(record.headers)
    if record.partition is not None and not 0 <= record.partition < 2**31:
        raise InvalidPartition
    # librdkafka reads 0 as "now"; Kafka has no time before 1970.
    if record.timestamp is not None and not 0 < record.timestamp < 2**63:
        raise InvalidTimestamp


def check_headers(headers: Headers) -> None:
    """Raise InvalidHeader where a name is reserved or cannot be used, or where they are too large together."""
    size = 0
    for name, value in headers:
        size += _name_bytes(name) + len(value or b"")
    if size > settings.MAX_HEADERS_BYTES:
        raise InvalidHeader(
            _("The headers have %(size)d bytes; at most %(most)d are taken."),
            size=size,
            most=settings.MAX_HEADERS_BYTES,
        )


def with_event_id(record: Record, event_id: uuid.UUID) -> Record:
    """The record as it goes to Kafka when it may go twice; checked before, for the header is reserved."""
    return msgspec.structs.replace(record, headers=((EVENT_ID_HEADER, str(event_id).encode()), *record.headers))


_usable: set[str] = set()  # names of headers that were checked


def check_names(names: Collection[str]) -> None:
    """Raise InvalidHeader where a header's name is reserved or cannot be used."""
    if not _usable.issuperset(names):
        for name in names:
            _name_bytes(name)
        if len(_usable) < 1_000:  # strangers choose them
            _usable.update(names)


@lru_cache(maxsize=1_000)
def _name_bytes(name: str) -> int:
    """The length of a header's name that may be used."""
    if not name or not name.isprintable():
        raise InvalidHeader(_("A header's name is not empty and has no control characters."))
    if name.lower() == EVENT_ID_HEADER:
        raise InvalidHeader(_("The header %(name)s is reserved."), name=EVENT_ID_HEADER)
    return len(name.encode())


def text_or_base64(data: bytes | None) -> tuple[str | None, str | None]:
    """Bytes for JSON: (text, None), or (base64, "base64") where they are not UTF-8, or (None, None)."""
    if data is None:
        return None, None
    try:
        return data.decode(), None
    except UnicodeDecodeError:
        return base64.b64encode(data).decode("ascii"), "base64"


def dump_headers(headers: Headers) -> str | None:
    """Headers as JSON text: a list of [name, text], [name, null] or [name, base64, "base64"]; None without any."""
    if not headers:
        return None
    rows: list[list[str | None]] = []
    for name, value in headers:
        text, encoding = text_or_base64(value)
        rows.append([name, text, encoding] if encoding else [name, text])
    return msgspec.json.encode(rows).decode()


def load_headers(text: str | None) -> Headers:
    """The inverse of `dump_headers`."""
    if not text:
        return ()
    rows = msgspec.json.decode(text, type=list[list[str | None]])
    return tuple((row[0] or "", _bytes(row)) for row in rows)


def _bytes(row: list[str | None]) -> bytes | None:
    if row[1] is None:
        return None
    return base64.b64decode(row[1]) if len(row) == 3 else row[1].encode()
