"""TKCONS["MASK"]: fields of JSON and headers that nobody gets to see, on whatever way a message leaves the store."""

import json
from functools import lru_cache
from typing import Any

from django.core.signals import setting_changed
from django.dispatch import receiver

from tk.record import Headers
from tkcons.conf import settings

HIDDEN = "•••"

Path = tuple[str, ...]


class Mask:
    """fields: names, at any depth ("card"), or paths from the root ("customer.email"; lists do not count as a step)."""

    def __init__(self, fields: tuple[str, ...] = (), headers: tuple[str, ...] = ()) -> None:
        self.paths = frozenset(tuple(field.lower().split(".")) for field in fields)
        self.headers_hidden = frozenset(name.lower() for name in headers)
        self._last = frozenset(path[-1] for path in self.paths)

    def __bool__(self) -> bool:
        """Whether values must be read whole before a part of them is shown."""
        return bool(self.paths)

    def data(self, data: bytes | None) -> bytes | None:
        """A whole value or key, its hidden fields replaced; then it is written anew.

        What names a hidden field and cannot be read as JSON is hidden whole.
        """
        if not self.paths or data is None:
            return data
        text = data.decode(errors="replace")
        if not self._may_name(text):
            return data
        try:
            return self._text(text).encode()
        except (ValueError, RecursionError):
            return HIDDEN.encode()

    def headers(self, headers: Headers) -> Headers:
        """The headers; of hidden ones the name alone."""
        if not self.headers_hidden:
            return headers
        hidden = HIDDEN.encode()
        return tuple((name, hidden if name.lower() in self.headers_hidden else value) for name, value in headers)

    def _may_name(self, text: str) -> bool:
        lower = text.lower()
        return "\\u" in lower or any(name in lower for name in self._last)

    def _text(self, text: str) -> str:
        document = json.loads(text)
        masked, changed = self._walk(document, ())
        return json.dumps(masked, ensure_ascii=False, separators=(",", ":")) if changed else text

    def _walk(self, node: Any, path: Path) -> tuple[Any, bool]:
        if isinstance(node, dict):
            made, changed = {}, False
            for name, inner in node.items():
                here = (*path, name.lower())
                if here in self.paths or here[-1:] in self.paths:
                    made[name], changed = HIDDEN, True
                else:
                    made[name], inside = self._walk(inner, here)
                    changed |= inside
            return made, changed
        if isinstance(node, list):
            pairs = [self._walk(inner, path) for inner in node]
            return [inner for inner, _ in pairs], any(inside for _, inside in pairs)
        if isinstance(node, str) and self._may_name(node):  # JSON as a string in JSON
            return self._string(node)
        return node, False

    def _string(self, node: str) -> tuple[str, bool]:
        if node.lstrip()[:1] not in {"{", "["}:
            return node, False
        try:
            text = self._text(node)
        except ValueError:
            return HIDDEN, True
        return text, text is not node


@lru_cache(maxsize=1)
def mask() -> Mask:
    """The project's mask."""
    given: dict[str, list[str]] = settings.MASK
    return Mask(tuple(given.get("fields", ())), tuple(given.get("headers", ())))


@receiver(setting_changed)
def _forget(*, setting: str, **kwargs: object) -> None:
    if setting == "TKCONS":
        mask.cache_clear()
