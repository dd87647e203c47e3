"""An ASGI application asked without a server: the fast lane, Django alone, and both."""

import asyncio
import json
from collections.abc import Iterable

from django.core.asgi import get_asgi_application

from tk.asgi import FastLane, fast_lane

Answer = tuple[int, list[tuple[bytes, bytes]], bytes]
QUIET_SECONDS = 20.0  # of a client that sends no more: longer than any limit of the tests


def scope(method: str, target: str, headers: Iterable[tuple[str, str]] = (), **parts) -> dict:
    path, _, query = target.partition("?")
    return {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": query.encode(),
        "root_path": "",
        "headers": [(name.encode(), value.encode("latin-1")) for name, value in [("host", "localhost"), *headers]],
        "client": ("127.0.0.1", 5000),
        "server": ("localhost", 8000),
        **parts,
    }


def events(*pieces: bytes) -> list[dict]:
    last = len(pieces) - 1
    return [
        {"type": "http.request", "body": piece, "more_body": number < last}
        for number, piece in enumerate(pieces or (b"",))
    ]


async def ask(application, scope: dict, body: list[dict]) -> Answer | None:
    """The answer; None where there was none."""
    waiting, sent = list(body), []

    async def receive():
        if waiting:
            return waiting.pop(0)
        await asyncio.sleep(QUIET_SECONDS)
        raise AssertionError("nobody stopped waiting for the body")

    async def send(event):
        sent.append(event)

    await application(scope, receive, send)
    if not sent:
        return None
    start, *rest = sent
    assert not rest[-1].get("more_body")
    headers = sorted((name.lower(), value) for name, value in start["headers"])
    return start["status"], headers, b"".join(event.get("body", b"") for event in rest)


def where(answer: Answer) -> Answer:
    """Without what differs between two messages."""
    status, headers, body = answer
    if status == 200 and body.startswith(b'{"topic"'):
        offset = b"%d>" % json.loads(body)["offset"]
        body = json.dumps({**json.loads(body), "offset": 0, "timestamp": 0}).encode()
        headers = [(name, value.replace(offset, b"0>")) for name, value in headers if name != b"content-length"]
    return status, headers, body


class Both:
    """The lane, and Django alone; `djangos` counts what the lane passed on."""

    def __init__(self) -> None:
        self.django = get_asgi_application()
        self.djangos = 0
        self.lane = fast_lane(self._counting)

    async def _counting(self, scope, receive, send):
        self.djangos += 1
        await self.django(scope, receive, send)

    def ask(self, scope: dict, *pieces: bytes) -> Answer:
        """The answer of both, which is the same."""

        async def go():
            first = await ask(self.lane, dict(scope), events(*pieces))
            second = await ask(self.django, dict(scope), events(*pieces))
            assert first is not None
            assert second is not None
            assert where(first) == where(second)
            return first

        return asyncio.run(go())


def lane_alone() -> FastLane:
    async def django(scope, receive, send):
        raise AssertionError("it was passed on")

    return fast_lane(django)
