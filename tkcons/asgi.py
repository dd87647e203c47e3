"""Streams of events beside Django's handler, for ASGI servers.

    application = event_streams(get_asgi_application())

Django answers the request as any other: its middleware, who asks, the headers. Then the stream goes on here, so that one
who follows holds neither a thread nor a request. Without this the stream is Django's response, for which Django holds both.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from typing import Any, Protocol

Scope = MutableMapping[str, Any]
Event = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Event]]
Send = Callable[[Event], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]

HANDED = "tkcons.streams"  # in the scope: where a view puts the stream that goes on after its response


class Stream(Protocol):
    """What is sent to one who follows. end: nothing more comes. close: at its end, also if it never began."""

    def __aiter__(self) -> AsyncIterator[bytes]: ...

    def end(self) -> None: ...

    def close(self) -> None: ...


def event_streams(application: Any) -> Application:
    """`application`, whose streams of events are sent from here."""

    async def wrapped(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await application(scope, receive, send)
            return
        handed: list[Stream] = []

        async def send_head(event: Event) -> None:
            if not handed or event["type"] != "http.response.body":
                await send(event)

        try:
            await application({**scope, HANDED: handed}, receive, send_head)
            for stream in handed:
                await _send(stream, receive, send)
        finally:
            for stream in handed:
                stream.close()

    return wrapped


async def _send(stream: Stream, receive: Receive, send: Send) -> None:
    leaving = asyncio.ensure_future(_until_gone(receive))
    leaving.add_done_callback(lambda _: stream.end())
    try:
        with contextlib.suppress(OSError):  # as ASGI says that somebody has gone
            async for data in stream:
                await send({"type": "http.response.body", "body": data, "more_body": True})
            await send({"type": "http.response.body", "body": b"", "more_body": False})
    finally:
        leaving.cancel()


async def _until_gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
