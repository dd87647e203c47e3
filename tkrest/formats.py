"""Records as the REST Proxy writes them: keys and values embedded as JSON, or as base64 (`binary`)."""

from typing import Any, cast

import msgspec
from confluent_kafka import TIMESTAMP_NOT_AVAILABLE, Message

from tk.record import Record
from tkrest.errors import NotJson
from tkrest.media import JSON

_NULL = msgspec.Raw(b"null")


class Header(msgspec.Struct, forbid_unknown_fields=True):
    """A header; the value in base64."""

    name: str
    value: bytes | None = None


class BinaryRecord(msgspec.Struct, forbid_unknown_fields=True):
    """A record of a produce request; key and value in base64. Headers and timestamp (ms) are additions to the REST Proxy."""

    key: bytes | None = None
    value: bytes | None = None
    partition: int | None = None
    headers: list[Header] = []
    timestamp: int | None = None


class JsonRecord(msgspec.Struct, forbid_unknown_fields=True):
    """A record of a produce request; key and value are any JSON, which is sent as it was written. null is no bytes."""

    key: msgspec.Raw = _NULL
    value: msgspec.Raw = _NULL
    partition: int | None = None
    headers: list[Header] = []
    timestamp: int | None = None


def to_record(given: BinaryRecord | JsonRecord, topic: str, partition: int | None) -> Record:
    """The record to send; `partition` where the record names none itself."""
    return Record(
        topic,
        _bytes(given.value),
        _bytes(given.key),
        tuple((header.name, header.value) for header in given.headers),
        partition if given.partition is None else given.partition,
        given.timestamp,
    )


def _bytes(part: bytes | msgspec.Raw | None) -> bytes | None:
    if isinstance(part, msgspec.Raw):
        data = bytes(part)
        msgspec.json.decode(data)  # numbers and all: a Raw is not looked at inside
        return None if data == b"null" else data
    return part


def size(message: Message) -> int:
    """Bytes of a message's key, value and headers, without any encoding."""
    headers = sum(len(name) + len(value or b"") for name, value in _headers(message))
    return len(message.key() or b"") + len(message.value() or b"") + headers


def _headers(message: Message) -> list[tuple[str, bytes | None]]:
    return cast("list[tuple[str, bytes | None]]", message.headers() or [])


def from_message(message: Message, embedded: str) -> dict[str, Any]:
    """A consumed record for JSON. `headers` (base64) stand where there are some. Raises NotJson."""
    kind, timestamp = message.timestamp()
    key, value = message.key(), message.value()
    entry: dict[str, Any] = {
        "topic": message.topic(),
        "key": _json(message, key) if embedded == JSON else key,  # msgspec writes bytes as base64
        "value": _json(message, value) if embedded == JSON else value,
        "partition": message.partition(),
        "offset": message.offset(),
        "timestamp": None if kind == TIMESTAMP_NOT_AVAILABLE else timestamp,
    }
    if headers := _headers(message):
        entry["headers"] = [{"name": name, "value": data} for name, data in headers]
    return entry


def _json(message: Message, data: bytes | None) -> msgspec.Raw | None:
    if data is None:
        return None
    try:
        data.decode()
        msgspec.json.decode(data)
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
        raise NotJson(
            f"The record at {message.topic()}[{message.partition()}] offset {message.offset()} is not JSON ({error}): "
            "read it with an instance of the format binary, or go past it by POST .../positions."
        ) from error
    return msgspec.Raw(data)
