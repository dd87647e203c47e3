"""The head of a request to the fast lane: all but its body, read and judged once, for clients send the same head again."""

import contextlib
import time
from typing import Any

from asgiref.sync import sync_to_async
from django.conf import settings as django_settings
from django.core.exceptions import DisallowedHost, SynchronousOnlyOperation
from django.db import close_old_connections
from django.http import HttpRequest

from tk import access, answer, views
from tk import request as requests
from tk.access import Caller
from tk.errors import TkError
from tk.record import Record, check
from tk.scope import REMEMBERED, LaneRequest, Scope, session_cookie

BELIEVED_SECONDS = 1.0
MAX_BYTES = 4_096  # of a head that is remembered


class Djangos(Exception):
    """The request is for Django to answer."""


class Head:
    """place: the path and whether it came by https. length: of the body, as the client tells it; 0 where it does not.
    batch, array: whether the body is a batch, or is one if it is an array. until: by time.monotonic(), how long all of it
    is believed."""

    def __init__(self, scope: Scope) -> None:
        self.request = request = LaneRequest(scope)
        meta = request.META
        self.place = (request.path, request.is_secure())
        self.as_json = answer.wants_json(meta.get("HTTP_ACCEPT", ""))
        length = meta.get("CONTENT_LENGTH", "") if "HTTP_TRANSFER_ENCODING" not in meta else ""  # which overrides it
        self.length = int(length) if length.isdecimal() and len(length) < 19 else 0
        self.posted = request.method == "POST"
        self.query: bytes = scope.get("query_string", b"")
        self.kind = meta.get("CONTENT_TYPE", "") if self.posted else ""
        self.encoding = meta.get("HTTP_CONTENT_ENCODING", "") if self.posted else ""
        self.batch = self.posted and requests.is_batch(self.kind, self.query)
        self.array = requests.may_be_batch(self.kind)
        self.limit = requests.accepted()
        self.until = 0.0
        self._record: Record | None = None  # for bodies of text or bytes: what is sent, but for its value
        self._text = False  # whether such a body must be text
        self._caller = Caller("")

    async def admit(self) -> None:
        """Raises Djangos, and what tk.views.admit raises."""
        request = self.request
        if "HTTP_IDEMPOTENCY_KEY" in request.META or session_cookie(request):
            raise Djangos
        if django_settings.SECURE_SSL_REDIRECT and not self.place[1]:
            raise Djangos
        try:
            request.get_host()
        except DisallowedHost as error:
            raise Djangos from error
        now = time.monotonic()
        self._caller = await _caller(request, now)
        self._record = self._prepared()
        self.until = min(now + BELIEVED_SECONDS, access.believed_until(request))

    def record(self, body: bytes) -> Record:
        """What such a request with this body sends. Raises BadRequest or Forbidden."""
        known = self._record
        if known is not None and body:
            if self._text:
                requests.text(body)
            return Record(known.topic, body, known.key, known.headers, known.partition, known.timestamp)
        record = requests.read(self.query, self.kind, self.encoding, lambda: body)
        self.require(record.topic)
        return record

    def require(self, topic: str) -> None:
        """Raise Forbidden unless the caller may produce to it."""
        access.require(self._caller, "tk.produce", topic)

    def _prepared(self) -> Record | None:
        """The record of any body, where all of the body is the value; None where there is something to say against it."""
        try:
            self._text = requests.RAW[requests.media_type(self.kind)]
            record = requests.read(self.query, self.kind, self.encoding, lambda: b"any")
            check(record)
            self.require(record.topic)
        except (KeyError, TkError):
            return None
        return record


class Heads:
    """Heads that were admitted; what they say holds for BELIEVED_SECONDS."""

    def __init__(self) -> None:
        self._known: dict[Any, Head] = {}
        self.forget = self._known.clear

    @staticmethod
    def key(scope: Scope) -> Any:
        """Everything that a Head is made of."""
        client, server = scope.get("client"), scope.get("server")
        return (
            scope["method"],
            scope["path"],
            scope.get("root_path"),
            scope.get("query_string"),
            scope.get("scheme"),
            client and client[0],
            server and tuple(server),
            *map(tuple, scope["headers"]),
        )

    def get(self, key: Any, now: float) -> Head | None:
        head = self._known.get(key)
        return head if head is not None and now < head.until else None

    def put(self, key: Any, head: Head) -> None:
        """Remember an admitted head of a POST: a GET has its message in the head."""
        if not head.posted or sum(len(text) for pair in key[7:] for text in pair) > MAX_BYTES:
            return
        if len(self._known) >= REMEMBERED:
            self._known.clear()
        self._known[key] = head


async def _caller(request: HttpRequest, now: float) -> Caller:
    """Who asks, without a thread where the database need not be asked. Raises what tk.views.admit raises."""
    if access.believed_until(request) > now:
        with contextlib.suppress(SynchronousOnlyOperation):  # belief that ended just now
            return views.admit(request)
    return await sync_to_async(_admit)(request)


def _admit(request: HttpRequest) -> Caller:
    """`views.admit` on a thread that may ask the database."""
    close_old_connections()
    try:
        return views.admit(request)
    finally:
        close_old_connections()
