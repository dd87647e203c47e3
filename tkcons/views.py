"""/tkcons starts the consumer, /tkcons/stop stops it, /tkcons/status tells of it, /tkcons/read shows what it stored."""

from collections.abc import Iterator
from pathlib import Path

from django.http import HttpRequest, HttpResponse, JsonResponse
from django.http.response import HttpResponseBase

from tk import access
from tk.errors import Forbidden
from tk.streams import stream
from tkcons import groups, reader
from tkcons.guard import asks_for, guarded, wants_page
from tkcons.models import Group
from tkcons.panel.groups import overview, steer
from tkcons.sinks.file import TextFileSink
from tkcons.viewer.views import messages_page

PIECE = 65_536  # bytes of the text file in a chunk
TEXT = "text/plain; charset=utf-8"


@guarded(by_get=True)
def start(request: HttpRequest, caller: access.Caller) -> HttpResponseBase:
    """`Started consumer`, however often: the desired state is set, and one consumer runs, not one more."""
    return _steered(request, caller, Group.State.RUNNING)


@guarded(by_get=True)
def stop(request: HttpRequest, caller: access.Caller) -> HttpResponseBase:
    """`Stopped consumer`: every process that runs a group stops within a heartbeat."""
    return _steered(request, caller, Group.State.STOPPED)


@guarded(changes=True)
def pause(request: HttpRequest, caller: access.Caller) -> HttpResponseBase:
    """`Paused consumer`: the groups keep their members and partitions and read nothing."""
    return _steered(request, caller, Group.State.PAUSED)


def _steered(request: HttpRequest, caller: access.Caller, state: Group.State) -> HttpResponseBase:
    text = steer(state, caller)
    if asks_for(request, "application/json"):
        return JsonResponse({"status": text, "groups": groups.status()})
    if asks_for(request, "text/html"):
        return overview(request, text)
    return HttpResponse(text, content_type=TEXT)


@guarded()
def status(request: HttpRequest, caller: access.Caller) -> HttpResponseBase:
    """The groups: desired state, members, partitions, lag, last errors; as JSON, or as a page for browsers."""
    access.require(caller, groups.CONTROL)
    if asks_for(request, "text/html"):
        return overview(request)
    return JsonResponse({"groups": groups.status()})


@guarded()
def read(request: HttpRequest, caller: access.Caller) -> HttpResponseBase:
    """The consumed messages: a page for browsers, JSON Lines where asked for, else the text file."""
    access.require(caller, reader.VIEW)
    if request.GET.get("format") == "jsonl" or asks_for(request, "application/x-ndjson"):
        return stream(request, reader.json_lines(caller), "application/x-ndjson")
    if wants_page(request):
        return messages_page(request, caller)
    path = text_file(caller)
    if path is None:
        return HttpResponse("There is no text file here: ask with ?format=jsonl.\n", content_type=TEXT, status=404)
    return stream(request, _pieces(path), TEXT)


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
