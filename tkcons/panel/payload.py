"""Keys, values and headers in a list: text, or hex where they are not UTF-8; cut."""

from datetime import datetime
from typing import Any

import msgspec

from tk.record import load_headers
from tkcons.masking import mask
from tkcons.viewer.rows import HEADERS, Text, as_time, beginning

CUT = 600  # bytes of a value in a list; keys and headers have a third of it


class Payload(msgspec.Struct, frozen=True):
    """What a message carries. None: a null key, a tombstone, a null header. time: None where the number is no time."""

    key: Text | None
    value: Text | None
    headers: list[tuple[str, Text | None]]
    time: datetime | None


def payload(row: Any) -> Payload:
    """Of a Message or a DeadLetter."""
    hidden = mask()
    key = hidden.data(None if row.key is None else bytes(row.key))
    value = hidden.data(None if row.value is None else bytes(row.value))
    headers = hidden.headers(load_headers(row.headers))
    return Payload(
        key=beginning(key, CUT // 3),
        value=beginning(value, CUT),
        headers=[(name[:200], beginning(data, CUT // 3)) for name, data in headers[:HEADERS]],
        time=None if row.timestamp is None else as_time(row.timestamp),
    )
