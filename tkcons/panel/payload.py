"""Keys, values and headers for people: text, or hex where they are not UTF-8; cut, and JSON laid out where it is whole."""

import codecs
import contextlib
import json
from datetime import UTC, datetime
from typing import Any

import msgspec

from tk.record import load_headers

CUT = 600  # bytes of a value in a list; keys and headers have a third of it
WHOLE = 262_144  # bytes of a value on a page of its own
HEX = 1_024  # bytes of binary data on a page of its own, in a list 48


class Text(msgspec.Struct, frozen=True):
    """size: of all the bytes, of which `text` shows the first."""

    text: str
    size: int
    binary: bool = False
    cut: bool = False


class Payload(msgspec.Struct, frozen=True):
    """What a message carries. None: a null key, a tombstone, a null header. time: None where the number is no time."""

    key: Text | None
    value: Text | None
    headers: list[tuple[str, Text | None]]
    time: datetime | None


def payload(row: Any, *, whole: bool = False) -> Payload:
    """Of a Message or a DeadLetter."""
    limit = WHOLE if whole else CUT
    key = None if row.key is None else bytes(row.key)
    value = None if row.value is None else bytes(row.value)
    headers = load_headers(row.headers)
    return Payload(
        key=_text(key, limit // 3),
        value=_text(value, limit, laid_out=whole),
        headers=[(name[:200], _text(data, limit // 3)) for name, data in headers[: None if whole else 8]],
        time=_time(row.timestamp),
    )


def _text(data: bytes | None, limit: int, *, laid_out: bool = False) -> Text | None:
    if data is None:
        return None
    cut = len(data) > limit
    try:
        text = codecs.getincrementaldecoder("utf-8")().decode(data[:limit], final=not cut)
    except UnicodeDecodeError:
        shown = HEX if limit > CUT else 48
        return Text(data[:shown].hex(" "), len(data), binary=True, cut=len(data) > shown)
    if laid_out and not cut and text.startswith(("{", "[")):
        with contextlib.suppress(ValueError, RecursionError):
            text = json.dumps(json.loads(text), indent=2, ensure_ascii=False)
    return Text(text, len(data), cut=cut)


def _time(milliseconds: int | None) -> datetime | None:
    try:
        return None if milliseconds is None else datetime.fromtimestamp(milliseconds / 1000, UTC)
    except (OverflowError, ValueError, OSError):
        return None
