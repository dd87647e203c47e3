"""ASGI's lifespan, which Django leaves out: at the server's end the consumer stops and the producer is emptied."""

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]


def lifespan(application: Any) -> Application:
    """`application` for everything but the lifespan protocol.

    https://asgi.readthedocs.io/en/latest/specs/lifespan.html
    """

    async def wrapped(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "lifespan":
            await application(scope, receive, send)
            return
        while True:
            message = await receive()
            if message["type"] == "lifespan.startup":
                await send({"type": "lifespan.startup.complete"})
            elif message["type"] == "lifespan.shutdown":
                await asyncio.to_thread(_shut_down)
                await send({"type": "lifespan.shutdown.complete"})
                return

    return wrapped


def _shut_down() -> None:
    from tk import producer
    from tkcons import web
    from tkrest import instances

    instances.close()
    web.stop()
    producer.close()
