"""The fast lane: /tkprod for single messages in front of Django's handler, for ASGI servers.

    application = fast_lane(get_asgi_application())

It answers what Django's view answers, by the same reading, permissions and producer, without Django's middleware. What it
cannot decide alone (sessions, batches, Idempotency-Key, methods but GET and POST) goes to Django, untouched.
"""

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, ClassVar

from asgiref.sync import sync_to_async
from django.conf import settings as django_settings
from django.core.exceptions import DisallowedHost
from django.core.signals import setting_changed
from django.db import close_old_connections
from django.http import HttpRequest, HttpResponse
from django.urls import Resolver404, resolve
from django.utils.module_loading import import_string

from tk import access, answer, metrics, producer, topics, views
from tk import request as requests
from tk.answer import Answer
from tk.conf import settings
from tk.errors import BadHost, OutcomeUnknown, SlowBody, TkError
from tk.record import Receipt, Record

Scope = MutableMapping[str, Any]
Event = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Event]]
Send = Callable[[Event], Awaitable[None]]

REMEMBERED = 1_000  # paths, hosts, header names: strangers choose them, so there is a bound
WATCH_SECONDS = 0.25
# Middleware that adds headers to any answer; the lane adds what they would.
_HEADERS_OF = {
    "django.middleware.security.SecurityMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "csp.middleware.CSPMiddleware",
}
# Middleware that does nothing for a request without a session whose answer is text or JSON.
_HARMLESS = {
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.locale.LocaleMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.auth.middleware.LoginRequiredMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.gzip.GZipMiddleware",
    "django.middleware.http.ConditionalGetMiddleware",
    "django_htmx.middleware.HtmxMiddleware",
}


def passed_by() -> list[str]:
    """The project's middleware that the fast lane passes by and cannot stand in for."""
    return [name for name in django_settings.MIDDLEWARE if name not in _HEADERS_OF | _HARMLESS]


def fast_lane(application: Any) -> "FastLane":
    """The ASGI application with the fast lane in front of it."""
    return FastLane(application)


class LaneRequest(HttpRequest):
    """As much of a request as tk.access and Django's own rules for hosts and schemes look at."""

    path = path_info = "/"
    _hosts: ClassVar[dict[tuple[str | None, ...], str]] = {}  # seen and allowed

    def __init__(self, scope: Scope) -> None:  # HttpRequest's own makes dicts that nobody here reads
        self.method = scope["method"]
        self._scheme: str = scope.get("scheme", "http")
        meta = self.META = {}
        client, server = scope.get("client"), scope.get("server")
        if client:
            meta["REMOTE_ADDR"] = client[0]
        meta["SERVER_NAME"], meta["SERVER_PORT"] = (server[0], str(server[1])) if server else ("unknown", "0")
        for name, value in scope["headers"]:
            key = _META.get(name) or _meta(name)
            text = value.decode("latin-1")
            # As Django joins headers that come twice: https://www.rfc-editor.org/rfc/rfc9110#section-5.3
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
        cls._hosts.clear()


def _meta(name: bytes) -> str:
    """The name of a header in META; names with an underscore could pass for others, as Django says, and are left out."""
    key = "HTTP_" + name.decode("latin-1").upper().replace("-", "_") if b"_" not in name else "UNUSED"
    if len(_META) < REMEMBERED:
        _META[name] = key
    return key


_META = {b"content-type": "CONTENT_TYPE", b"content-length": "CONTENT_LENGTH"}


class FastLane:
    """An ASGI application; one object serves every loop of the process."""

    def __init__(self, application: Any) -> None:
        self.application = application
        self._ours: dict[str, bool] = {}
        self._headers: dict[bool, list[tuple[bytes, bytes]]] = {}  # by whether the request is secure
        self._acknowledgements: dict[asyncio.AbstractEventLoop, _Acknowledgements] = {}
        self._asking: set[asyncio.Future[Any]] = set()  # looks at topics under way; held, or they would be collected
        setting_changed.connect(self._forget)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not self._takes(scope):
            await self.application(scope, receive, send)
            return
        began = time.monotonic()
        request = LaneRequest(scope)
        secure = request.is_secure()
        if (django_settings.SECURE_SSL_REDIRECT and not secure) or not _is_single(request):
            await self.application(scope, receive, send)
            return
        as_json = answer.wants_json(request.META.get("HTTP_ACCEPT", ""))
        body = _Body(receive, request)
        try:
            receipt = await self._produce(scope, request, body)
        except _Batch:
            await self.application(scope, body.replay, send)
            return
        except _Gone:
            return
        except TkError as error:
            metrics.observe(error.code, time.monotonic() - began)
            given = answer.refused(error, as_json=as_json)
        else:
            metrics.observe("produced", time.monotonic() - began)
            given = answer.produced(receipt, as_json=as_json)
        await self._send(given, send, secure=secure)

    def _takes(self, scope: Scope) -> bool:
        """Whether the address is that of tk.views.produce, in whatever URL configuration and under whatever prefix."""
        if scope["method"] not in {"GET", "POST"}:
            return False
        path: str = scope["path"]
        ours = self._ours.get(path)
        if ours is None:
            root = django_settings.FORCE_SCRIPT_NAME or scope.get("root_path", "")
            try:
                ours = resolve(path.removeprefix(root) or "/").func is views.produce
            except Resolver404:
                ours = False
            if len(self._ours) >= REMEMBERED:
                self._ours.clear()
            self._ours[path] = ours
        return ours

    async def _produce(self, scope: Scope, request: LaneRequest, body: "_Body") -> Receipt:
        try:
            request.get_host()
        except DisallowedHost as error:
            raise BadHost from error
        if access.is_believed(request):
            caller = views.admit(request)
        else:
            caller = await sync_to_async(_admit)(request)
        data = await body.read() if request.method == "POST" else b""
        query = scope.get("query_string", b"")
        meta = request.META
        kind = meta.get("CONTENT_TYPE", "") if request.method == "POST" else ""
        if kind.startswith(requests.JSON) and data.lstrip()[:1] == b"[":
            raise _Batch
        record = requests.read(query, kind, meta.get("HTTP_CONTENT_ENCODING", ""), lambda: data)
        access.require(caller, "tk.produce", record.topic)
        return await self._submit(record)

    async def _submit(self, record: Record) -> Receipt:
        loop = asyncio.get_running_loop()
        acknowledgements = self._acknowledgements.get(loop)
        if acknowledgements is None:
            acknowledgements = self._acknowledgements[loop] = _Acknowledgements(loop)
        future: asyncio.Future[Receipt | TkError] = loop.create_future()

        def done(outcome: Receipt | TkError) -> None:
            acknowledgements.put(future, outcome)

        age = topics.metadata.age(record.topic)
        if age < settings.METADATA_SECONDS:
            if age > settings.METADATA_SECONDS / 2 and not self._asking:
                self._look_ahead(record.topic)
            producer.submit(record, done)
        else:  # the cluster is asked, which may take a moment: not on the loop's thread
            await asyncio.to_thread(producer.submit, record, done)
        acknowledgements.watch(future)
        outcome = await future
        if isinstance(outcome, TkError):
            raise outcome
        return outcome

    def _look_ahead(self, topic: str) -> None:
        """Ask for the topic before its entry is too old, so that no request waits for the answer."""
        asking = asyncio.ensure_future(asyncio.to_thread(_ask, topic))
        self._asking.add(asking)
        asking.add_done_callback(self._asking.discard)

    async def _send(self, given: Answer, send: Send, *, secure: bool) -> None:
        headers = self._headers.get(secure)
        if headers is None:
            headers = self._headers[secure] = _security_headers(secure=secure)
        start = [
            (b"content-type", given.content_type.encode("ascii")),
            (b"content-length", b"%d" % len(given.body)),
            *headers,
        ]
        if given.headers:
            start += [(name.lower().encode("ascii"), value.encode("ascii")) for name, value in given.headers]
        await send({"type": "http.response.start", "status": given.status, "headers": start})
        await send({"type": "http.response.body", "body": given.body})

    def _forget(self, **kwargs: object) -> None:
        self._ours.clear()
        self._headers.clear()
        LaneRequest.forget()


class _Acknowledgements:
    """From the producer's thread to the loop: one wake-up for all that have come."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._come: deque[tuple[asyncio.Future[Receipt | TkError], Receipt | TkError]] = deque()
        self._woken = False
        self._watched: deque[tuple[float, asyncio.Future[Receipt | TkError]]] = deque()

    def put(self, future: "asyncio.Future[Receipt | TkError]", outcome: Receipt | TkError) -> None:
        self._come.append((future, outcome))
        if not self._woken:
            self._woken = True
            self._loop.call_soon_threadsafe(self._take)

    def _take(self) -> None:
        self._woken = False  # before the deque is emptied: what comes later wakes again
        while self._come:
            future, outcome = self._come.popleft()
            if not future.done():
                future.set_result(outcome)

    def watch(self, future: "asyncio.Future[Receipt | TkError]") -> None:
        """Give the request up after REQUEST_TIMEOUT. One timer for all: librdkafka's own timeout is shorter, so that
        this is for a poller that stalls."""
        if not self._watched:
            self._loop.call_later(WATCH_SECONDS, self._look)
        self._watched.append((self._loop.time() + settings.REQUEST_TIMEOUT, future))

    def _look(self) -> None:
        now = self._loop.time()
        while self._watched and (self._watched[0][1].done() or self._watched[0][0] < now):
            _, future = self._watched.popleft()
            if not future.done():
                future.set_result(OutcomeUnknown())
        if self._watched:
            self._loop.call_later(WATCH_SECONDS, self._look)


class _Batch(Exception):
    """The request holds several messages, or is too large for one: it is Django's."""


class _Gone(Exception):
    """The client went away before its request was whole."""


class _Body:
    """A request's body, read within bounds; `replay` gives the events again to who comes after."""

    def __init__(self, receive: Receive, request: LaneRequest) -> None:
        self._receive = receive
        self._length = request.META.get("CONTENT_LENGTH", "")
        self._events: deque[Event] = deque()

    async def read(self) -> bytes:
        """The whole body. Raises _Batch over the limit, which Django answers, SlowBody, or _Gone."""
        limit = requests.body_limit()
        if len(self._length) > 6 and self._length.isdigit() and int(self._length) > limit:
            raise _Batch
        event = await self._next()
        if not event.get("more_body"):
            body: bytes = event.get("body", b"")
            return body
        parts, size = [event.get("body", b"")], len(event.get("body", b""))
        try:
            async with asyncio.timeout(settings.REQUEST_TIMEOUT):
                while event.get("more_body"):
                    event = await self._next()
                    parts.append(event.get("body", b""))
                    size += len(parts[-1])
                    if size > limit:
                        raise _Batch
        except TimeoutError:
            raise SlowBody from None
        return b"".join(parts)

    async def _next(self) -> Event:
        event = await self._receive()
        if event["type"] == "http.disconnect":
            raise _Gone
        self._events.append(event)
        return event

    async def replay(self) -> Event:
        return self._events.popleft() if self._events else await self._receive()


def _is_single(request: LaneRequest) -> bool:
    """Whether this can be answered here: no session, one message, no key for repeats."""
    meta = request.META
    if django_settings.SESSION_COOKIE_NAME in meta.get("HTTP_COOKIE", "") or "HTTP_IDEMPOTENCY_KEY" in meta:
        return False
    if request.method == "GET":
        return True
    kind = meta.get("CONTENT_TYPE", "")
    return kind.startswith(_SINGLE) or not kind


_SINGLE = (requests.FORM, requests.JSON, *requests.RAW)


def _admit(request: HttpRequest) -> access.Caller:
    """`views.admit` on a thread that may ask the database."""
    close_old_connections()
    try:
        return views.admit(request)
    finally:
        close_old_connections()


def _ask(topic: str) -> None:
    try:
        topics.get(topic, 0)
    except TkError:
        topics.metadata.forget()  # the next request asks, and is told what is wrong


def _security_headers(*, secure: bool) -> list[tuple[bytes, bytes]]:
    """What the project's own middleware adds to an answer of this kind."""
    request = LaneRequest({"method": "GET", "headers": (), "scheme": "https" if secure else "http"})
    response = HttpResponse(content_type=answer.TEXT)
    for name in reversed(django_settings.MIDDLEWARE):
        if name in _HEADERS_OF:
            middleware = import_string(name)(lambda _: response)
            if hasattr(middleware, "process_request"):
                middleware.process_request(request)
            middleware.process_response(request, response)
    del response["Content-Type"]
    return [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in response.items()]
