"""Messages as lines of text: the tutorial's, as kafka-python prints its ConsumerRecord, and JSON.

This is most of a file sink's work, so what messages of one partition share is made once, and a chunk of lines is put
together while it is in the processor's cache.
"""

import re
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec
from confluent_kafka import TIMESTAMP_LOG_APPEND_TIME, TIMESTAMP_NOT_AVAILABLE

from tk.record import text_or_base64

CHUNK = 500  # messages
ESCAPES = ((b"&", b"&amp;"), (b"<", b"&lt;"), (b">", b"&gt;"))
LINE = (
    b"%b%d, timestamp=%d, timestamp_type=%d, key=%a, value=%a, headers=%b, checksum=None, "
    b"serialized_key_size=%d, serialized_value_size=%d, serialized_header_size=%d)"
)
_HEAD = re.compile(rb"ConsumerRecord\(topic='([A-Za-z0-9._-]+)', partition=(\d+), offset=(\d+), ")


class Where(msgspec.Struct, gc=False):
    """Of a line what tells its message."""

    topic: str
    partition: int
    offset: int


def where_line(line: bytes) -> Where:
    """Of a line of `lines`. Raises ValueError."""
    found = _HEAD.match(line)
    if found is None:
        raise ValueError("it does not begin as a ConsumerRecord")
    return Where(found[1].decode(), int(found[2]), int(found[3]))


_decoder = msgspec.json.Decoder(Where)


def where_json(line: bytes) -> Where:
    """Of a line of `json_lines`. Raises ValueError."""
    try:
        return _decoder.decode(line)
    except msgspec.MsgspecError as error:
        raise ValueError(str(error)) from error


def lines(messages: Sequence[Any]) -> bytes:
    """Of one partition: ``ConsumerRecord(topic='sample-topic', partition=0, offset=0, ..., value=b'hello', ...)<br>`` and
    a line feed each.

    repr() leaves neither line breaks nor control characters in key, value and headers; & < > are escaped, for the
    tutorial shows the file as a page.
    """
    return b"".join(map(_lines, _chunks(messages)))


def _lines(messages: Sequence[Any]) -> bytes:
    head = b"ConsumerRecord(topic=%a, partition=%d, offset=" % (messages[0].topic(), messages[0].partition())
    made = []
    for message in messages:
        kind, timestamp = message.timestamp()
        key, value, headers = message.key(), message.value(), message.headers()
        made.append(
            LINE
            % (
                head,
                message.offset(),
                timestamp,
                kind == TIMESTAMP_LOG_APPEND_TIME,
                key,
                value,
                repr(headers).encode() if headers else b"[]",
                -1 if key is None else len(key),
                -1 if value is None else len(value),
                sum(len(name.encode()) + len(data or b"") for name, data in headers) if headers else -1,
            )
        )
    made.append(b"")
    text = b"\n".join(made)
    for character, escape in ESCAPES:
        if character in text:
            text = text.replace(character, escape)
    return text.replace(b"\n", b"<br>\n")


class _Header(msgspec.Struct, omit_defaults=True, gc=False):
    name: str
    value: str | None
    encoding: str | None = None


class _Line(msgspec.Struct, omit_defaults=True, gc=False):
    """As tkcons.reader gives a stored message, so that a file and the page's export read alike."""

    topic: str
    partition: int
    offset: int
    timestamp: int | None
    key: str | None
    value: str | None
    headers: list[_Header]
    key_encoding: str | None = None
    encoding: str | None = None


_encoder = msgspec.json.Encoder()
_NO_HEADERS: list[_Header] = []  # one for all: it is only written out


def json_lines(messages: Sequence[Any]) -> bytes:
    """Of one partition: a JSON object a line: topic, partition, offset, timestamp (ms or null), key, value (null, text, or
    base64 where it is not UTF-8: then `encoding` says so), headers."""
    return b"".join(map(_json_lines, _chunks(messages)))


def _json_lines(messages: Sequence[Any]) -> bytes:
    topic, partition = messages[0].topic(), messages[0].partition()
    made = []
    for message in messages:
        kind, timestamp = message.timestamp()
        key, value, headers = message.key(), message.value(), message.headers()
        key_encoding = encoding = None
        try:  # text nearly always: no call of our own for it
            if key is not None:
                key = key.decode()
            if value is not None:
                value = value.decode()
        except UnicodeDecodeError:
            key, key_encoding = text_or_base64(message.key())
            value, encoding = text_or_base64(message.value())
        made.append(
            _Line(
                topic,
                partition,
                message.offset(),
                None if kind == TIMESTAMP_NOT_AVAILABLE else timestamp,
                key,
                value,
                [_Header(name, *text_or_base64(data)) for name, data in headers] if headers else _NO_HEADERS,
                key_encoding,
                encoding,
            )
        )
    return _encoder.encode_lines(made)


def _chunks(messages: Sequence[Any]) -> Iterator[Sequence[Any]]:
    return (messages[first : first + CHUNK] for first in range(0, len(messages), CHUNK))
