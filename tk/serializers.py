"""Python values as bytes: as TK["SERIALIZERS"] says, else bytes and text as they are and everything else as JSON."""

from collections.abc import Callable
from fnmatch import fnmatchcase
from functools import lru_cache
from typing import Any

import msgspec
from django.core.signals import setting_changed
from django.utils.module_loading import import_string

from tk.conf import settings
from tk.errors import InvalidRecord

Serializer = Callable[[Any, str], bytes | None]  # of value and topic; raises InvalidRecord, or NotSent

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


def serialize(value: Any, topic: str, serializer: Serializer | None = None) -> bytes | None:
    """The value by this serializer, or the topic's, or `to_bytes`; None and bytes stay as they are."""
    if value is None or isinstance(value, bytes):
        return value
    if serializer is None and settings.SERIALIZERS:
        serializer = _of_topic(topic)
    if serializer is None:
        return to_bytes(value)
    data = serializer(value, topic)
    if data is not None and not isinstance(data, bytes):
        raise InvalidRecord(f"The serializer of {topic!r} gives a {type(data).__name__}, not bytes.")
    return data


@lru_cache(maxsize=1_000)
def _of_topic(topic: str) -> Serializer | None:
    for pattern, given in settings.SERIALIZERS.items():
        if fnmatchcase(topic, pattern):
            made: Serializer = import_string(given) if isinstance(given, str) else given
            return made
    return None


def _forget(setting: str, **kwargs: object) -> None:
    if setting == "TK":
        _of_topic.cache_clear()


setting_changed.connect(_forget, dispatch_uid="tk.serializers")
