"""The fast lane: /tkprod in front of Django's handler, for ASGI servers.

    application = fast_lane(get_asgi_application())

It answers what Django's view answers, by the same reading, permissions and producer, without Django's middleware. What it
cannot decide alone (sessions, Idempotency-Key, hosts not allowed, other methods) goes to Django, untouched.
"""

import time
from contextlib import aclosing
from typing import Any

from django.core.handlers.asgi import get_script_prefix
from django.core.signals import setting_changed
from django.urls import Resolver404, resolve, set_script_prefix

from tk import answer, aproducer, bulk, bypass, metrics, views
from tk import request as requests
from tk.answer import Answer
from tk.conf import settings
from tk.errors import TkError
from tk.head import Djangos, Head, Heads
from tk.record import Receipt
from tk.scope import REMEMBERED, Body, Event, Gone, LaneRequest, Receive, Scope, Send, TooMuch


def fast_lane(application: Any) -> "FastLane":
    """The ASGI application with the fast lane in front of it."""
    return FastLane(application)


class FastLane:
    """An ASGI application; one object serves every loop of the process."""

    def __init__(self, application: Any) -> None:
        self.application = application
        self._ours: dict[tuple[str, str], bool] = {}  # by path and prefix
        self._heads = Heads()
        self._headers: dict[tuple[object, ...], list[tuple[bytes, bytes]]] = {}
        setting_changed.connect(self._forget)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.application(scope, receive, send)
            return
        began = time.monotonic()
        key = Heads.key(scope)
        known = self._heads.get(key, began)
        if known is None and not self._takes(scope):
            await self.application(scope, receive, send)
            return
        head = known or Head(scope)
        body = Body(receive, head.length)
        try:
            if known is None:
                await head.admit()
                self._heads.put(key, head)
            receipt = await self._produce(head, body, send)
            if receipt is None:  # a batch was answered
                metrics.observe("batch", time.monotonic() - began)
                return
        except Djangos:
            await self._pass_on(scope, head, body, send)
            return
        except Gone:
            return
        except TkError as error:
            metrics.observe(error.code, time.monotonic() - began)
            given = answer.refused(error, as_json=head.as_json)
        else:
            metrics.observe("produced", time.monotonic() - began)
            if head.as_json:
                set_script_prefix(get_script_prefix(scope))  # for the link to the message
            given = answer.produced(receipt, as_json=head.as_json)
        await self._send(head, given, send)

    def _takes(self, scope: Scope) -> bool:
        """Whether the address is that of tk.views.produce, in whatever URL configuration and under whatever prefix."""
        if scope["method"] not in {"GET", "POST"}:
            return False
        place = (scope["path"], scope.get("root_path", ""))
        ours = self._ours.get(place)
        if ours is None:
            try:
                path = scope["path"].removeprefix(get_script_prefix(scope))
                ours = not bypass.closed() and resolve(path).func is views.produce
            except Resolver404:
                ours = False
            if len(self._ours) >= REMEMBERED:  # strangers choose paths
                self._ours.clear()
            self._ours[place] = ours
        return ours

    async def _pass_on(self, scope: Scope, head: Head, body: Body, send: Send) -> None:
        """Let Django answer. It lays a body down on disk before it looks at it, so its length is bounded here."""
        if body.length <= settings.MAX_BATCH_BYTES:
            await self.application(scope, body.replay, send)
        if body.over or body.length > settings.MAX_BATCH_BYTES:
            error = requests.too_large(settings.MAX_BATCH_BYTES)
            await self._send(head, answer.refused(error, as_json=head.as_json), send)

    async def _produce(self, head: Head, body: Body, send: Send) -> Receipt | None:
        """None: it was a batch, and has its answer."""
        here, data = aproducer.of_this_loop(), b""
        many = head.batch
        if head.posted and not many:
            try:
                data = await body.read(head.limit, here.deadlines)
            except TooMuch:
                if not head.array:
                    raise requests.too_large() from None
                data = await body.peek(here.deadlines)
                if not requests.may_be_batch(head.kind, data):
                    raise requests.too_large() from None
            many = head.array and requests.may_be_batch(head.kind, data)
        if not many:
            return await aproducer.send(head.record(data), here)
        given, pieces = await bulk.produce(head, body, here)
        async with aclosing(pieces):
            await send(self._start(head, given))
            async for piece in pieces:
                await send({"type": "http.response.body", "body": piece, "more_body": True})
            await send({"type": "http.response.body", "body": b""})
        return None

    async def _send(self, head: Head, given: Answer, send: Send) -> None:
        await send(self._start(head, given, (b"content-length", b"%d" % len(given.body))))
        await send({"type": "http.response.body", "body": given.body})

    def _start(self, head: Head, given: Answer, *more: tuple[bytes, bytes]) -> Event:
        key = (head.place, given.status, given.content_type)
        headers = self._headers.get(key)
        if headers is None:
            headers = self._headers[key] = bypass.headers(head.request, given)
        told = [*more, *headers]
        for name, value in given.headers:
            told.append((name.encode("ascii"), value.encode("ascii")))
        return {"type": "http.response.start", "status": given.status, "headers": told}

    def _forget(self, **kwargs: object) -> None:
        self._ours.clear()
        self._heads.forget()
        self._headers.clear()
        LaneRequest.forget()
