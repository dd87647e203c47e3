"""/tkcons/events: what is stored, as Server-Sent Events, or with poll=1 as JSON."""

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

from asgiref.sync import sync_to_async
from django.core.handlers.asgi import ASGIRequest
from django.db import connections
from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.http.response import HttpResponseBase

from tk.access import Caller, require
from tkcons.asgi import HANDED, Stream
from tkcons.conf import settings
from tkcons.guard import guarded
from tkcons.viewer import cursor, ending, live, search, store
from tkcons.viewer.hub import Viewer, hub
from tkcons.viewer.live import View
from tkcons.viewer.query import Form

HEARTBEAT = 15.0  # seconds between two signs of life, which also show who has gone
STREAM_SECONDS = 300.0  # then the follower comes again, with its id: who lost a permission is shown nothing more
FIRST = b"retry: 2000\n\n"
BEAT = b": beat\n\n"


@guarded()
def events(request: HttpRequest, caller: Caller) -> HttpResponseBase:
    """Rows as the page shows them, of the query in the address, from `Last-Event-ID` or `after` on without a gap."""
    require(caller, search.VIEW)
    view = View(Form(request.GET).query(), caller.topics)
    given = request.headers.get("Last-Event-ID") or request.GET.get("after")
    after = cursor.load(given) if given is not None else None
    if "poll" in request.GET:
        return _poll(view, after)
    viewer = Viewer(view, after)
    hub().join(viewer, _limit(request))
    body: Any = _AsyncBody(viewer, request) if isinstance(request, ASGIRequest) else _Body(viewer)
    response = StreamingHttpResponse(body, content_type="text/event-stream")
    response["Cache-Control"] = "no-store"
    response["Content-Encoding"] = "identity"  # no middleware and no proxy may wait for more to compress
    response["X-Accel-Buffering"] = "no"
    return response


def _poll(view: View, after: cursor.Offsets | None) -> HttpResponse:
    if after is None:
        after = {place.pk: place.next_offset for place in store.places()}
    rows, dropped, place = live.catch_up(view, after)
    parts = b",".join(live.body(row) for row in rows)
    body = b'{"messages":[%s],"dropped":%d,"after":"%s"}' % (parts, dropped, place.encode())
    response = HttpResponse(body, content_type="application/json")
    response["Cache-Control"] = "no-store"
    return response


def _limit(request: HttpRequest) -> int:
    """How many may follow here at once: under WSGI each holds a thread of a server that has few."""
    if isinstance(request, ASGIRequest):
        return int(settings.VIEWERS)
    if not request.META.get("wsgi.multithread"):
        return 0
    if request.META.get("SERVER_SOFTWARE", "").startswith("WSGIServer"):  # runserver: a thread a connection
        return int(settings.VIEWERS)
    return int(settings.VIEWERS_WSGI)


class _Stream:
    """The stream of one who follows. `close` is called at its end, also if it never began."""

    def __init__(self, viewer: Viewer) -> None:
        self._viewer = viewer
        self._until = time.monotonic() + STREAM_SECONDS

    def close(self) -> None:
        hub().leave(self._viewer)

    def _goes_on(self) -> bool:
        return not self._viewer.ended and time.monotonic() < self._until


def _close_connections() -> None:
    """This thread asks nothing more: a follower holds no connection."""
    for connection in connections.all(initialized_only=True):
        if not connection.in_atomic_block:
            connection.close()


class _Body(_Stream):
    """On the server's thread."""

    def __iter__(self) -> Iterator[bytes]:
        viewer = self._viewer
        _close_connections()
        try:
            yield FIRST
            while self._goes_on():
                viewer.bell.clear()
                data = viewer.take()
                if data is not None:
                    yield data
                elif not viewer.bell.wait(HEARTBEAT):
                    yield BEAT
        finally:
            self.close()


class _LoopStream(_Stream):
    """In an event loop."""

    async def __aiter__(self) -> AsyncIterator[bytes]:
        viewer, loop = self._viewer, asyncio.get_running_loop()
        viewer.loop = loop
        ending.watch()
        yield FIRST
        while self._goes_on():
            viewer.loop_bell.clear()
            data = viewer.take()
            if data is None:
                timer = loop.call_later(HEARTBEAT, viewer.loop_bell.set)
                await viewer.loop_bell.wait()
                timer.cancel()
                data = viewer.take() or BEAT
            yield data

    def end(self) -> None:
        self._viewer.ended = True
        self._viewer.loop_bell.set()


class _AsyncBody:
    """Django's response in an event loop: empty where tkcons.asgi goes on with the stream, else the stream.

    Not iterable without a loop: Django would take that way, and wait for the stream's end.
    """

    def __init__(self, viewer: Viewer, request: ASGIRequest) -> None:
        self._stream = _LoopStream(viewer)
        self._handed: list[Stream] | None = request.scope.get(HANDED)

    async def __aiter__(self) -> AsyncIterator[bytes]:
        await sync_to_async(_close_connections)()
        if self._handed is not None:
            self._handed.append(self._stream)
            return
        async for data in self._stream:
            yield data

    def close(self) -> None:
        if not self._handed:
            self._stream.close()
