"""A value for people: JSON folded, text, or a dump of bytes; bounded in depth, in nodes and in size."""

import json
from collections.abc import Iterator
from datetime import datetime
from typing import Any, NamedTuple

from django.utils.html import escape, format_html
from django.utils.safestring import SafeString, mark_safe
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from tk.record import load_headers
from tkcons.masking import mask
from tkcons.viewer.rows import Text, as_time, beginning

SHOWN = 65_536  # bytes of a value on its page
ALL = 4_194_304  # bytes after "show all"; what is longer is for downloading
DUMPED = 4_096  # bytes of binary data on its page
NODES = 2_000  # of a JSON document that are shown folded
DEPTH = 24
OPEN = 2  # levels that are open at first
STRING = 2_000  # characters of a string in a folded document
LINE = 16  # bytes of a line of a dump


class Shown(NamedTuple):
    """A value on its page. kind: json, text, binary, tombstone. html: for json. cut: whether there is more."""

    kind: str
    size: int
    text: str = ""
    html: SafeString | None = None
    cut: bool = False


class Whole(NamedTuple):
    """A message on its page, masked. None: a null key, a null header. time: None where the number is no time.

    showable: whether "show all" can show the value, which is else for downloading.
    """

    key: Text | None
    value: Shown
    headers: list[tuple[str, Text | None]]
    time: datetime | None
    showable: bool


def whole(row: Any, *, everything: bool) -> Whole:
    """Of a Message or a DeadLetter."""
    hidden = mask()
    value = present(hidden.data(None if row.value is None else bytes(row.value)), everything=everything)
    return Whole(
        key=beginning(hidden.data(None if row.key is None else bytes(row.key)), SHOWN),
        value=value,
        headers=[(name, beginning(data, SHOWN)) for name, data in hidden.headers(load_headers(row.headers))],
        time=None if row.timestamp is None else as_time(row.timestamp),
        showable=value.size <= ALL,
    )


class _Number(str):
    """A number as the document has it: no digit is lost."""

    __slots__ = ()


def present(data: bytes | None, *, everything: bool) -> Shown:
    if data is None:
        return Shown("tombstone", 0)
    limit = ALL if everything else SHOWN
    try:
        text = data.decode()
    except UnicodeDecodeError:
        limit = SHOWN if everything else DUMPED
        return Shown("binary", len(data), dump(data[:limit]), cut=len(data) > limit)
    if len(data) <= limit and text.lstrip()[:1] in {"{", "["}:
        html = _folded(text)
        if html is not None:
            return Shown("json", len(data), text, html)
    shown = data[:limit].decode(errors="ignore")  # the limit may cut a character
    return Shown("text", len(data), shown, cut=len(data) > limit)


def dump(data: bytes) -> str:
    """Lines of offset, hex and ASCII."""
    lines = []
    for start in range(0, len(data), LINE):
        part = data[start : start + LINE]
        plain = "".join(chr(byte) if 0x20 <= byte < 0x7F else "." for byte in part)
        lines.append(f"{start:08x}  {part.hex(' '):<{LINE * 3}} {plain}")
    return "\n".join(lines)


def _folded(text: str) -> SafeString | None:
    """The document as nested <details>; None: it is no JSON, or holds what is no text."""
    budget = [NODES]
    try:
        document = json.loads(text, parse_int=_Number, parse_float=_Number)
        html = "".join(_node(document, 0, budget))
        html.encode()  # JSON may escape half a surrogate pair, which no page can show
    except (ValueError, RecursionError):
        return None
    return mark_safe(html)  # noqa: S308  every part is escaped


def _node(node: Any, depth: int, budget: list[int]) -> Iterator[str]:
    if not (isinstance(node, dict | list) and node):
        yield _leaf(node)
        return
    pairs: list[tuple[Any, Any]]
    if isinstance(node, dict):
        pairs, brackets = list(node.items()), "{}"
        count = ngettext("%(count)d field", "%(count)d fields", len(pairs)) % {"count": len(pairs)}
    else:
        pairs, brackets = list(enumerate(node)), "[]"
        count = ngettext("%(count)d item", "%(count)d items", len(pairs)) % {"count": len(pairs)}
    opened = " open" if depth < OPEN else ""
    yield f"<details{opened}><summary>{brackets} <span>{escape(count)}</span></summary><ul>"
    for name, inner in pairs:
        budget[0] -= 1
        if budget[0] < 0 or depth >= DEPTH:
            yield format_html("<li><em>{}</em></li>", _("more, in the text below"))
            break
        yield format_html("<li><b>{}</b>: ", name)
        yield from _node(inner, depth + 1, budget)
        yield "</li>"
    yield "</ul></details>"


def _leaf(node: Any) -> str:
    if isinstance(node, _Number):
        return format_html('<code class="n">{}</code>', node)
    if isinstance(node, str):
        shown = node if len(node) <= STRING else node[:STRING] + "…"
        return format_html('<code class="s">{}</code>', shown)
    text = json.dumps(node) if node is None or isinstance(node, bool) else "{}" if isinstance(node, dict) else "[]"
    return format_html('<code class="l">{}</code>', text)
