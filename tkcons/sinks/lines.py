"""A message as a line of text: the tutorial's, as kafka-python's ConsumerRecord prints it, and JSON."""

from collections.abc import Sequence
from typing import Any

import msgspec
from confluent_kafka import TIMESTAMP_NOT_AVAILABLE

from tk.record import text_or_base64


def line(message: Any) -> str:
    """``ConsumerRecord(topic='sample-topic', partition=0, offset=0, ..., value=b'hello', ...)<br>`` and a line feed.

    repr() leaves neither line breaks nor control characters in key, value and headers; & < > are escaped, for the
    tutorial shows the file as a page.
    """
    kind, timestamp = message.timestamp()
    key = message.key()
    value = message.value()
    headers = message.headers() or []
    size = sum(len(name.encode()) + len(data or b"") for name, data in headers) if headers else -1
    text = (
        f"ConsumerRecord(topic={message.topic()!r}, partition={message.partition()}, offset={message.offset()}, "
        f"timestamp={timestamp}, timestamp_type={max(kind - 1, 0)}, key={key!r}, value={value!r}, headers={headers!r}, "
        f"checksum=None, serialized_key_size={-1 if key is None else len(key)}, "
        f"serialized_value_size={-1 if value is None else len(value)}, serialized_header_size={size})"
    )
    if "&" in text or "<" in text or ">" in text:
        text = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return f"{text}<br>\n"


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


def json_lines(messages: Sequence[Any]) -> bytes:
    """A JSON object a line: topic, partition, offset, timestamp (ms or null), key, value (null, text, or base64 where it
    is not UTF-8: then `encoding` says so), headers."""
    return _encoder.encode_lines([_json_line(message) for message in messages])


def _json_line(message: Any) -> _Line:
    kind, timestamp = message.timestamp()
    key, key_encoding = text_or_base64(message.key())
    value, encoding = text_or_base64(message.value())
    headers = message.headers()
    return _Line(
        message.topic(),
        message.partition(),
        message.offset(),
        None if kind == TIMESTAMP_NOT_AVAILABLE else timestamp,
        key,
        value,
        [_Header(name, *text_or_base64(data)) for name, data in headers] if headers else [],
        key_encoding,
        encoding,
    )
