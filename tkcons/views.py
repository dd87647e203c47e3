"""/tkcons starts the consumer, /tkcons/stop stops it, /tkcons/status tells of it, /tkcons/read shows what it stored."""

import logging
from collections.abc import Callable, Iterator
from functools import wraps
from pathlib import Path

from django.conf import settings as django_settings
from django.db import transaction
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.http.response import HttpResponseBase
from django.shortcuts import render
from django.utils.cache import patch_vary_headers
from django.views.decorators.csrf import csrf_exempt

from tk import access
from tk.errors import Forbidden, GetRefused, TkError
from tk.views import refusal
from tkcons import groups, reader, web
from tkcons.conf import settings
from tkcons.errors import TkconsError
from tkcons.models import Group
from tkcons.sinks.file import TextFileSink
from tkcons.streams import stream

logger = logging.getLogger(__name__)

View = Callable[[HttpRequest, access.Caller], HttpResponseBase]
PAGE = 100  # messages on a page
PIECE = 65_536  # bytes of the text file in a chunk
TEXT = "text/plain; charset=utf-8"


def _view(*, changes: bool) -> Callable[[View], Callable[[HttpRequest], HttpResponseBase]]:
    """What the views share: who asks, which methods act, errors as answers. `changes`: not by GET unless GET_STARTS."""

    def decorate(view: View) -> Callable[[HttpRequest], HttpResponseBase]:
        @csrf_exempt  # tk.access checks, by Origin, Sec-Fetch-Site and for sessions Django's token
        @transaction.non_atomic_requests
        @wraps(view)
        def wrapped(request: HttpRequest) -> HttpResponseBase:
            try:
                if changes and request.method != "POST" and not _gets_act(request):
                    raise GetRefused
                response: HttpResponseBase = view(request, access.identify(request))
            except (TkError, TkconsError) as error:
                response = refusal(error, as_json=_asks_for(request, "application/json"))
            patch_vary_headers(response, ["Accept", "Cookie", "Authorization"])
            return response

        return wrapped

    return decorate


def _gets_act(request: HttpRequest) -> bool:
    allowed = django_settings.DEBUG if settings.GET_STARTS is None else settings.GET_STARTS
    return bool(allowed) and request.method == "GET"


def _asks_for(request: HttpRequest, kind: str) -> bool:
    """Whether the client names this type itself: a browser names text/html, curl takes anything."""
    return kind in request.headers.get("Accept", "")


@_view(changes=True)
def start(request: HttpRequest, caller: access.Caller) -> HttpResponseBase:
    """`Started consumer`, however often: the desired state is set, and one consumer runs, not one more."""
    groups.want(Group.State.RUNNING, caller)
    web.ensure_started()
    logger.info("wanted running", extra={"action": "start", "caller": caller.name})
    return _steered(request, "Started consumer")


@_view(changes=True)
def stop(request: HttpRequest, caller: access.Caller) -> HttpResponseBase:
    """`Stopped consumer`: every process that runs a group stops within a heartbeat."""
    groups.want(Group.State.STOPPED, caller)
    logger.info("wanted stopped", extra={"action": "stop", "caller": caller.name})
    return _steered(request, "Stopped consumer")


def _steered(request: HttpRequest, text: str) -> HttpResponseBase:
    if _asks_for(request, "application/json"):
        return JsonResponse({"status": text, "groups": groups.status()})
    if _asks_for(request, "text/html"):
        return render(request, "tkcons/panel.html", {"said": text, "groups": groups.status()})
    return HttpResponse(text, content_type=TEXT)


@_view(changes=False)
def status(request: HttpRequest, caller: access.Caller) -> HttpResponseBase:
    """The groups: desired state, members, partitions, lag, last errors; as JSON, or as a page for browsers."""
    access.require(caller, groups.CONTROL)
    if _asks_for(request, "text/html"):
        return render(request, "tkcons/panel.html", {"groups": groups.status()})
    return JsonResponse({"groups": groups.status()})


@_view(changes=False)
def read(request: HttpRequest, caller: access.Caller) -> HttpResponseBase:
    """The consumed messages: a page for browsers, JSON Lines where asked for, else the text file."""
    access.require(caller, reader.VIEW)
    if request.GET.get("format") == "jsonl" or _asks_for(request, "application/x-ndjson"):
        return stream(request, reader.json_lines(caller), "application/x-ndjson")
    if _asks_for(request, "text/html"):
        return _page(request, caller)
    path = text_file(caller)
    if path is None:
        return HttpResponse("There is no text file here: ask with ?format=jsonl.\n", content_type=TEXT, status=404)
    return stream(request, _pieces(path), TEXT)


def _page(request: HttpRequest, caller: access.Caller) -> HttpResponseBase:
    given = request.GET.get("before", "")
    before = int(given) if given.isascii() and given.isdecimal() and len(given) < 19 else None
    messages = reader.latest(caller, PAGE + 1, before)
    context = {"messages": messages[:PAGE], "older": messages[PAGE - 1]["id"] if len(messages) > PAGE else None}
    return render(request, "tkcons/read.html", context)


def text_file(caller: access.Caller) -> Path | None:
    """The text sink's file, if there is such a sink. Raises Forbidden if it holds a topic that the caller may not read."""
    for spec in groups.specs().values():
        sink = spec.sink()
        if isinstance(sink, TextFileSink):
            if not all(caller.sees(topic) for topic in spec.topics):
                raise Forbidden("The text file holds topics that the token does not name: ask with ?format=jsonl.")
            return sink.path
    return None


def _pieces(path: Path) -> Iterator[bytes]:
    """The file as it is now; nothing, if no message has come yet."""
    try:
        with path.open("rb") as file:
            while piece := file.read(PIECE):
                yield piece
    except FileNotFoundError:
        return
