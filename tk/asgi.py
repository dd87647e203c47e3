"""The fast lane: /tkprod for single messages in front of Django's handler, for ASGI servers.

    application = fast_lane(get_asgi_application())

It answers what Django's view answers, by the same reading, permissions and producer, without Django's middleware. What it
cannot decide alone (sessions, batches, Idempotency-Key, hosts not allowed, other methods) goes to Django, untouched.
"""

import time
from typing import Any

from asgiref.sync import sync_to_async
from django.conf import settings as django_settings
from django.core.exceptions import DisallowedHost
from django.core.handlers.asgi import get_script_prefix
from django.core.signals import setting_changed
from django.db import close_old_connections
from django.http import HttpRequest
from django.urls import Resolver404, resolve, set_script_prefix

from tk import access, answer, aproducer, bypass, metrics, views
from tk import request as requests
from tk.answer import Answer
from tk.conf import settings
from tk.errors import TkError
from tk.record import Receipt
from tk.scope import REMEMBERED, Body, Gone, LaneRequest, Receive, Scope, Send, TooMuch, session_cookie


def fast_lane(application: Any) -> "FastLane":
    """The ASGI application with the fast lane in front of it."""
    return FastLane(application)


class FastLane:
    """An ASGI application; one object serves every loop of the process."""

    def __init__(self, application: Any) -> None:
        self.application = application
        self._ours: dict[tuple[str, str], bool] = {}  # by path and prefix
        self._headers: dict[tuple[object, ...], list[tuple[bytes, bytes]]] = {}
        setting_changed.connect(self._forget)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not self._takes(scope):
            await self.application(scope, receive, send)
            return
        began = time.monotonic()
        request = LaneRequest(scope)
        body = Body(receive, request.META.get("CONTENT_LENGTH", ""))
        as_json = answer.wants_json(request.META.get("HTTP_ACCEPT", ""))
        try:
            receipt = await self._produce(scope, request, body)
        except _Djangos:
            await self._pass_on(scope, request, body, send)
            return
        except Gone:
            return
        except TkError as error:
            metrics.observe(error.code, time.monotonic() - began)
            given = answer.refused(error, as_json=as_json)
        else:
            metrics.observe("produced", time.monotonic() - began)
            if as_json:
                set_script_prefix(get_script_prefix(scope))  # for the link to the message
            given = answer.produced(receipt, as_json=as_json)
        await self._send(request, given, send)

    def _takes(self, scope: Scope) -> bool:
        """Whether the address is that of tk.views.produce, in whatever URL configuration and under whatever prefix."""
        if scope["method"] not in {"GET", "POST"}:
            return False
        path: str = scope["path"]
        root = get_script_prefix(scope)
        ours = self._ours.get((path, root))
        if ours is None:
            try:
                ours = not bypass.closed() and resolve(path.removeprefix(root)).func is views.produce
            except Resolver404:
                ours = False
            if len(self._ours) >= REMEMBERED:  # strangers choose paths
                self._ours.clear()
            self._ours[path, root] = ours
        return ours

    async def _produce(self, scope: Scope, request: LaneRequest, body: Body) -> Receipt:
        meta = request.META
        if "HTTP_IDEMPOTENCY_KEY" in meta or session_cookie(request):
            raise _Djangos
        if django_settings.SECURE_SSL_REDIRECT and not request.is_secure():
            raise _Djangos
        try:
            request.get_host()
        except DisallowedHost as error:
            raise _Djangos from error
        query = scope.get("query_string", b"")
        kind = encoding = ""
        if request.method == "POST":
            kind, encoding = meta.get("CONTENT_TYPE", ""), meta.get("HTTP_CONTENT_ENCODING", "")
        caller = views.admit(request) if access.is_believed(request) else await sync_to_async(_admit)(request)
        if requests.is_batch(kind, query):  # after the permission: Django lays a body down before it looks who sent it
            raise _Djangos
        data = b""
        if request.method == "POST":
            try:
                data = await body.read(requests.accepted())
            except TooMuch:
                if requests.may_be_batch(kind):
                    raise _Djangos from None
                raise requests.too_large() from None
            if requests.may_be_batch(kind, data):
                raise _Djangos
        record = requests.read(query, kind, encoding, lambda: data)
        access.require(caller, "tk.produce", record.topic)
        return await aproducer.send(record)

    async def _pass_on(self, scope: Scope, request: LaneRequest, body: Body, send: Send) -> None:
        """Let Django answer. It lays a body down on disk before it looks at it, so its length is bounded here."""
        if body.length <= settings.MAX_BATCH_BYTES:
            await self.application(scope, body.replay, send)
        if body.over or body.length > settings.MAX_BATCH_BYTES:
            as_json = answer.wants_json(request.META.get("HTTP_ACCEPT", ""))
            await self._send(
                request, answer.refused(requests.too_large(settings.MAX_BATCH_BYTES), as_json=as_json), send
            )

    async def _send(self, request: LaneRequest, given: Answer, send: Send) -> None:
        key = (request.path, request.is_secure(), given.status, given.content_type)
        headers = self._headers.get(key)
        if headers is None:
            headers = self._headers[key] = bypass.headers(request, given)
        await send(
            {
                "type": "http.response.start",
                "status": given.status,
                "headers": [
                    (b"content-length", b"%d" % len(given.body)),
                    *headers,
                    *[(name.encode("ascii"), value.encode("ascii")) for name, value in given.headers],
                ],
            }
        )
        await send({"type": "http.response.body", "body": given.body})

    def _forget(self, **kwargs: object) -> None:
        self._ours.clear()
        self._headers.clear()
        LaneRequest.forget()


class _Djangos(Exception):
    """The request is for Django to answer."""


def _admit(request: HttpRequest) -> access.Caller:
    """`views.admit` on a thread that may ask the database."""
    close_old_connections()
    try:
        return views.admit(request)
    finally:
        close_old_connections()
