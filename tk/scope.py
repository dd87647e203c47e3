"""An ASGI scope as a request, and its body: as little as the fast lane needs, as strict as Django's own."""

from collections import deque
from collections.abc import Awaitable, Callable, MutableMapping
from typing import IO, Any, ClassVar

from django.conf import settings as django_settings
from django.http import HttpRequest

from tk.conf import settings
from tk.deadlines import Deadlines
from tk.errors import SlowBody

Scope = MutableMapping[str, Any]
Event = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Event]]
Send = Callable[[Event], Awaitable[None]]

REMEMBERED = 1_000  # hosts, header names: strangers choose them, so there is a bound


class LaneRequest(HttpRequest):
    """As much of a request as tk.access and Django's own rules for hosts and schemes look at."""

    _hosts: ClassVar[dict[tuple[str | None, ...], str]] = {}  # seen and allowed

    def __init__(self, scope: Scope) -> None:  # HttpRequest's own makes dicts that nobody here reads
        self.method = scope["method"]
        self.path = self.path_info = scope["path"]
        self._scheme: str = scope.get("scheme") or "http"
        meta = self.META = {}
        client, server = scope.get("client"), scope.get("server")
        if client:
            meta["REMOTE_ADDR"] = client[0]
        meta["SERVER_NAME"], meta["SERVER_PORT"] = (server[0], str(server[1])) if server else ("unknown", "0")
        for name, value in scope["headers"]:
            key = _NAMES.get(name) or _meta_name(name)
            text = value.decode("latin-1")
            meta[key] = f"{meta[key]},{text}" if key in meta else text

    def _get_scheme(self) -> str:
        return self._scheme

    def get_host(self) -> str:
        """HttpRequest.get_host, remembered for what was allowed. Raises DisallowedHost."""
        meta = self.META
        key = (meta.get("HTTP_HOST"), meta.get("HTTP_X_FORWARDED_HOST"), meta["SERVER_NAME"], meta["SERVER_PORT"])
        host = self._hosts.get(key)
        if host is None:
            host = super().get_host()
            if len(self._hosts) >= REMEMBERED:
                self._hosts.clear()
            self._hosts[key] = host
        return host

    @classmethod
    def forget(cls) -> None:
        """Other settings hold."""
        cls._hosts.clear()


_NAMES: dict[bytes, str] = {}


def _meta_name(name: bytes) -> str:
    """The name of a header in META. One with an underscore could pass for another, as Django says, and is left out."""
    key = name.decode("latin-1").upper().replace("-", "_")
    if b"_" in name:
        key = "UNUSED"
    elif key not in {"CONTENT_TYPE", "CONTENT_LENGTH"}:
        key = f"HTTP_{key}"
    if len(_NAMES) >= REMEMBERED:
        _NAMES.clear()
    _NAMES[name] = key
    return key


class TooMuch(Exception):
    """The body is longer than was allowed."""


class Gone(Exception):
    """The client went away before its request was whole."""


class Body:
    """A request's body, read within bounds; `replay` gives the same events to who comes after, within another bound.

    length: the bytes that the client tells of, which the server sees to; 0 where it tells of none.
    """

    __slots__ = ("_events", "_receive", "_replayed", "length", "over")

    def __init__(self, receive: Receive, length: int) -> None:
        self._receive = receive
        self._events: deque[Event] = deque()
        self._replayed = 0
        self.length = length
        self.over = False  # a replayed body was longer than its bound

    async def read(self, limit: int, deadlines: Deadlines) -> bytes:
        """The whole body, which has REQUEST_TIMEOUT to arrive. Raises TooMuch, SlowBody or Gone."""
        if self.length > limit:
            raise TooMuch
        parts: list[bytes] = []
        size, more = 0, True
        with deadlines.within(SlowBody):
            while more:
                event = await self._next()
                piece = event.get("body", b"")
                parts.append(piece)
                size += len(piece)
                if size > limit:
                    raise TooMuch
                # All that it told of is here. Granian's event that nothing follows is one more turn of the loop.
                more = event.get("more_body", False) and not 0 < size == self.length
        return b"".join(parts)

    async def peek(self, deadlines: Deadlines) -> bytes:
        """The body's first piece. Raises SlowBody or Gone."""
        if not self._events:
            with deadlines.within(SlowBody):
                await self._next()
        first: bytes = self._events[0].get("body", b"")
        return first

    async def spool(self, file: IO[bytes], deadlines: Deadlines) -> None:
        """Lay the whole body down, also what was read before; each piece has REQUEST_TIMEOUT to arrive.

        Raises TooMuch over MAX_BATCH_BYTES, SlowBody or Gone.
        """
        if self.length > settings.MAX_BATCH_BYTES:
            raise TooMuch
        more = True
        while more:
            with deadlines.within(SlowBody):
                event = await self.replay()
            if event["type"] == "http.disconnect":
                raise TooMuch if self.over else Gone
            file.write(event.get("body", b""))
            more = event.get("more_body", False)

    async def _next(self) -> Event:
        event = await self._receive()
        if event["type"] == "http.disconnect":
            raise Gone
        self._events.append(event)
        return event

    async def replay(self) -> Event:
        """The body's events from the first on. Past MAX_BATCH_BYTES the client seems to have gone, and `over` is true."""
        event = self._events.popleft() if self._events else await self._receive()
        self._replayed += len(event.get("body", b""))
        if self._replayed > settings.MAX_BATCH_BYTES:
            self.over = True
            return {"type": "http.disconnect"}
        return event


def session_cookie(request: HttpRequest) -> bool:
    """Whether the request seems to come with a Django session."""
    cookies = request.META.get("HTTP_COOKIE", "")
    return cookies != "" and django_settings.SESSION_COOKIE_NAME in cookies
