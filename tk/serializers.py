"""Python values as bytes: bytes and text as they are, everything else as JSON."""

from typing import Any

import msgspec

from tk.errors import InvalidRecord

_encoder = msgspec.json.Encoder()


def to_bytes(value: Any) -> bytes | None:
    """None stays None (a tombstone); bytes, text in UTF-8; models with `model_dump_json` (pydantic) by it; the rest by
    msgspec: dicts, lists, numbers, dataclasses, Structs, dates, UUIDs.

    Raises InvalidRecord for what has no JSON.
    """
    if value is None or isinstance(value, bytes):
        return value
    try:
        if isinstance(value, str):
            return value.encode()
        if isinstance(value, bytearray | memoryview):
            return bytes(value)
        if hasattr(value, "model_dump_json"):
            return str(value.model_dump_json()).encode()
        return _encoder.encode(value)
    except (TypeError, ValueError, OverflowError, RecursionError, msgspec.MsgspecError) as error:
        raise InvalidRecord(f"A {type(value).__name__} cannot be written as JSON: {error}") from error
