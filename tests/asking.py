"""Whole requests of strangers, through all of Django: right ones, cut, changed and spliced part by part."""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from io import BytesIO
from typing import Any

from django.http.response import HttpResponseBase
from django.test import Client

from tests.fuzzing import CASES, SEED, changed

FORM = b"application/x-www-form-urlencoded"
METHODS = ("GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS")
CHANGED = 0.35  # of each part of a request


@dataclass(frozen=True)
class Asked:
    """A request. path: as it is after its %XX. headers: by their names in WSGI's environment."""

    method: str
    path: bytes
    query: bytes = b""
    body: bytes = b""
    headers: dict[str, bytes] = field(default_factory=dict)


def asked(right: Sequence[Asked], count: int = CASES) -> Iterator[Asked]:
    """The right ones, then what becomes of them, the same for the same seed."""
    draw = random.Random(SEED)
    yield from right
    for _ in range(count - len(right)):
        yield _changed(draw, draw.choice(right), right)


def _changed(draw: random.Random, case: Asked, right: Sequence[Asked]) -> Asked:
    parts: dict[str, Any] = {}
    for name in ("path", "query", "body"):
        if draw.random() < CHANGED:
            parts[name] = changed(draw, [getattr(case, name), getattr(draw.choice(right), name)])
    if draw.random() < 0.05:
        parts["method"] = draw.choice(METHODS)
    if "path" in parts:  # most go where the right ones go
        parts["path"] = b"/" + parts["path"].lstrip(b"/")
    headers = {
        name: changed(draw, [value]).replace(b"\r", b"").replace(b"\n", b"") if draw.random() < 0.1 else value
        for name, value in case.headers.items()
    }
    return replace(case, headers=headers, **parts)


def answer(client: Client, case: Asked) -> tuple[HttpResponseBase, bytes]:
    """The whole answer; what the application raises comes out."""
    environ = {
        "REQUEST_METHOD": case.method,
        "PATH_INFO": case.path.decode("latin-1"),
        "QUERY_STRING": case.query.decode("latin-1"),
        "CONTENT_LENGTH": str(len(case.body)),
        "wsgi.input": BytesIO(case.body),
        **{name: value.decode("latin-1") for name, value in case.headers.items()},
    }
    response = client.request(**environ)
    content = b"".join(response.streaming_content) if response.streaming else response.content
    response.close()
    return response, content
