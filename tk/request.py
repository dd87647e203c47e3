"""An HTTP request that produces one message, read strictly: whatever is wrong with it is a BadRequest with a code."""

import base64
import binascii
import re
from collections.abc import Callable, Iterable
from collections.abc import Set as AbstractSet
from functools import lru_cache
from itertools import product
from typing import Any

import msgspec
from django.conf import settings as django_settings
from django.utils.http import parse_header_parameters

from tk.api import record
from tk.conf import settings
from tk.errors import (
    BadEncoding,
    BadRequest,
    InvalidHeader,
    InvalidKey,
    InvalidPartition,
    InvalidRecord,
    InvalidTimestamp,
    InvalidTopic,
    MissingMessage,
    TooLarge,
    UnsupportedMedia,
)
from tk.record import Record

FORM = "application/x-www-form-urlencoded"
JSON = "application/json"
NDJSON = "application/x-ndjson"
RAW = {"text/plain": True, "application/octet-stream": False}  # whether it must be text
FIELDS = {"message", "encoding", "topic", "key", "partition", "headers", "timestamp"}
MAX_FIELDS = 50
_ESCAPE = re.compile(rb"%([0-9a-fA-F]{2})")
_BYTES = {bytes(digits): bytes([int(bytes(digits), 16)]) for digits in product(b"0123456789abcdefABCDEF", repeat=2)}
ALLOWED_BESIDE = {"csrfmiddlewaretoken"}
_LINES = re.compile(rb"(?:^|&)lines=")


def body_limit() -> int:
    """Bytes of the largest body that can hold a message: percent escapes treble it, JSON's make six of one."""
    largest: int = settings.MAX_VALUE_BYTES + settings.MAX_KEY_BYTES + settings.MAX_HEADERS_BYTES
    return 6 * largest


def accepted() -> int:
    """Bytes of the largest body of a single message that is read, by our limits and the project's."""
    limit = body_limit()
    projects = django_settings.DATA_UPLOAD_MAX_MEMORY_SIZE
    return limit if projects is None else min(limit, projects)


def is_batch(content_type: str, query: bytes) -> bool:
    """Whether a POST holds many records: NDJSON, or lines of text by `?lines=1`."""
    return content_type.partition(";")[0].strip().lower() == NDJSON or bool(_LINES.search(query))


def may_be_batch(content_type: str, body: bytes | None = None) -> bool:
    """Whether the body is JSON and (where it is at hand) an array."""
    if content_type.partition(";")[0].strip().lower() != JSON:
        return False
    return body is None or body.lstrip()[:1] == b"["


def read(query: bytes, content_type: str, content_encoding: str, body: Callable[[], bytes]) -> Record:
    """The record that a request asks for. `body` is called when there is one to read; None as a method without one.

    Fields come from the query and from a form or a JSON object; a field given twice is refused. Raises BadRequest.
    """
    fields = pairs(query)
    refuse_encoding(content_encoding)
    kind = media_type(content_type)
    # Without a body a raw type says nothing: wsgiref gives text/plain to a request that names no type.
    if kind in RAW and (data := body()):
        if RAW[kind]:
            text(data)
        _add(fields, {"message": data}, FIELDS)
        return record_of(fields, data)
    if kind == JSON:
        _add(fields, json_object(body()), FIELDS)
    elif kind == FORM:
        _add(fields, pairs(body()), FIELDS)
    elif kind and kind not in RAW:
        raise UnsupportedMedia
    return record_of(fields, message_of(fields))


@lru_cache(maxsize=1_000)
def media_type(content_type: str) -> str:
    """The type alone, in small letters. Raises UnsupportedMedia where it cannot be read or the text is not UTF-8."""
    try:
        kind, parameters = parse_header_parameters(content_type)
    except (ValueError, LookupError) as error:
        raise UnsupportedMedia("The Content-Type cannot be read.") from error
    if parameters.get("charset", "utf-8").strip("\"'").lower() not in {"utf-8", "utf8", "us-ascii"}:
        raise UnsupportedMedia("Text is taken in UTF-8 alone.")
    return str(kind)


def text(data: bytes) -> str:
    """Raises BadEncoding unless it is UTF-8 without NUL."""
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        raise BadEncoding(f"Byte {error.start} is not UTF-8; send application/octet-stream for other bytes.") from error
    if "\0" in text:
        raise BadEncoding("The text has a NUL in it; send application/octet-stream for other bytes.")
    return text


def refuse_encoding(content_encoding: str) -> None:
    """Raise UnsupportedMedia for a body that is compressed."""
    if content_encoding and content_encoding.strip().lower() not in {"", "identity"}:
        raise UnsupportedMedia(f"The content encoding {content_encoding!r} is not taken: send the body as it is.")


def pairs(data: bytes, known: AbstractSet[str] = FIELDS) -> dict[str, Any]:
    """A query string or a form, strictly: UTF-8, each field once, of the known ones. Raises BadRequest."""
    if data.count(b"&") >= MAX_FIELDS:
        raise BadRequest("The request has too many fields.")
    fields: dict[str, Any] = {}
    for pair in filter(None, data.split(b"&")):
        name, _, value = map(_unescaped, pair.partition(b"="))
        if "\0" in value:
            raise BadEncoding(f"The field {name[:40]!r} has a NUL in it.")
        _add(fields, {name: value}, known)
    return fields


def _unescaped(data: bytes) -> str:
    """As urllib's unquote_plus, which holds 80 bytes for each escape: half a gigabyte for the longest body."""
    try:
        data.decode("ascii")
        return _ESCAPE.sub(_byte, data.replace(b"+", b" ")).decode()
    except UnicodeError as error:
        raise BadEncoding("The request's fields are not percent-escaped UTF-8.") from error


def _byte(escape: re.Match[bytes]) -> bytes:
    return _BYTES[escape[1]]


def _add(fields: dict[str, Any], more: dict[str, Any], known: AbstractSet[str]) -> None:
    for name, value in more.items():
        if name in fields:
            raise BadRequest(f"The field {name[:40]!r} is there twice.")
        fields[name] = value
    refuse_unknown(more, known | ALLOWED_BESIDE)


def refuse_unknown(fields: Iterable[str], known: AbstractSet[str]) -> None:
    """Raise BadRequest for a field that nobody knows."""
    for name in fields:
        if name not in known:
            raise BadRequest(f"There is no field {name[:40]!r}; known: {', '.join(sorted(known - ALLOWED_BESIDE))}.")


def _json(data: bytes | str) -> Any:
    try:
        return msgspec.json.decode(data)
    except (msgspec.MsgspecError, UnicodeError, RecursionError, ValueError, OverflowError) as error:
        raise BadRequest(f"The JSON cannot be read: {error}") from error


def json_object(data: bytes) -> dict[str, Any]:
    """Raises MissingMessage, BadEncoding or BadRequest."""
    if not data:
        raise MissingMessage
    text(data)
    value = _json(data)
    if not isinstance(value, dict):
        raise BadRequest('Send an object: {"message": "hello"}.')
    return value


def message_of(fields: dict[str, Any]) -> bytes | None:
    """The value: text, or base64 where `encoding` says so, or JSON's null, or another JSON value as its JSON."""
    if "message" not in fields:
        raise MissingMessage
    message, encoding = fields["message"], fields.get("encoding", "")
    if encoding not in ("", "base64"):  # a tuple: what came may have no hash
        raise InvalidRecord("The encoding is base64 or not given.")
    if message is None:
        return None
    if encoding:
        try:
            return base64.b64decode(message, validate=True)
        except (TypeError, ValueError, binascii.Error) as error:
            raise BadEncoding("The message is not base64.") from error
    if message == "":
        raise MissingMessage
    if not isinstance(message, str):
        return msgspec.json.encode(message)
    if "\0" in message:
        raise BadEncoding("The message has a NUL in it; send it as base64 for other bytes.")
    return message.encode()  # both readers give whole characters alone


def record_of(fields: dict[str, Any], value: bytes | None) -> Record:
    """The record that the fields describe. Raises InvalidRecord where one cannot be what it should."""
    topic = fields.get("topic", settings.TOPIC)
    key = fields.get("key")
    if not isinstance(topic, str):
        raise InvalidTopic
    if key is not None and not isinstance(key, str):
        raise InvalidKey("A key is text.")
    return record(
        topic,
        value,
        key=key,
        headers=_headers(fields.get("headers")),
        partition=_integer(fields.get("partition"), InvalidPartition),
        timestamp=_integer(fields.get("timestamp"), InvalidTimestamp),
    )


def _integer(value: Any, error: type[InvalidRecord]) -> int | None:
    """A whole number, as JSON has it or in up to 19 ASCII digits."""
    if value is None or (isinstance(value, int) and not isinstance(value, bool)):
        return value
    if not isinstance(value, str) or not value.isascii() or not value.isdecimal() or len(value) > 19:
        raise error
    return int(value)


def _headers(value: Any) -> list[tuple[str, str | None]]:
    """An object {"name": "text"}, or a list of [name, text] where a name comes twice; in a query as JSON."""
    if isinstance(value, str):
        value = _json(value) if value else None
    if value is None:
        return []
    pairs = list(value.items()) if isinstance(value, dict) else value
    if not isinstance(pairs, list) or not all(
        isinstance(pair, list | tuple)
        and len(pair) == 2
        and isinstance(pair[0], str)
        and isinstance(pair[1], str | None)
        for pair in pairs
    ):
        raise InvalidHeader('Headers are {"name": "text"} or [["name", "text"]].')
    return [(name, text) for name, text in pairs]


def too_large(limit: int | None = None) -> TooLarge:
    """The error for a body of more than `limit` bytes."""
    return TooLarge(f"The body is too large: at most {accepted() if limit is None else limit} bytes are read.")
