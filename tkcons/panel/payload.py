"""Keys, values and headers for people: text, or hex where they are not UTF-8; cut, and JSON laid out where it is whole."""

import contextlib
import json
from datetime import datetime
from typing import Any

import msgspec

from tk.record import load_headers
from tkcons.masking import mask
from tkcons.viewer.rows import Text, as_time, text_of

CUT = 600  # bytes of a value in a list; keys and headers have a third of it
WHOLE = 262_144  # bytes of a value on a page of its own


class Payload(msgspec.Struct, frozen=True):
    """What a message carries. None: a null key, a tombstone, a null header. time: None where the number is no time."""

    key: Text | None
    value: Text | None
    headers: list[tuple[str, Text | None]]
    time: datetime | None


def payload(row: Any, *, whole: bool = False) -> Payload:
    """Of a Message or a DeadLetter."""
    limit = WHOLE if whole else CUT
    hidden = mask()
    key = hidden.data(None if row.key is None else bytes(row.key))
    value = hidden.data(None if row.value is None else bytes(row.value))
    headers = hidden.headers(load_headers(row.headers))
    return Payload(
        key=_text(key, limit // 3),
        value=_text(value, limit, laid_out=whole),
        headers=[(name[:200], _text(data, limit // 3)) for name, data in headers[: None if whole else 8]],
        time=None if row.timestamp is None else as_time(row.timestamp),
    )


def _text(data: bytes | None, limit: int, *, laid_out: bool = False) -> Text | None:
    if data is None:
        return None
    shown = text_of(data, len(data), limit)
    if laid_out and not (shown.cut or shown.binary) and shown.text.startswith(("{", "[")):
        with contextlib.suppress(ValueError, RecursionError):
            return Text(json.dumps(json.loads(shown.text), indent=2, ensure_ascii=False), len(data))
    return shown
