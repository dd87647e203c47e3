"""/tkcons/read in a browser: the list that is searched and followed; a message; exports."""

from typing import Any
from urllib.parse import quote

from django.http import HttpRequest, HttpResponse, JsonResponse, QueryDict
from django.http.response import HttpResponseBase
from django.shortcuts import render
from django.urls import reverse
from django.utils.translation import gettext_noop as _

from tk.access import Caller
from tk.streams import stream
from tkcons import groups
from tkcons.errors import TkconsError
from tkcons.guard import guarded, wants_page
from tkcons.masking import mask
from tkcons.models import Message
from tkcons.reader import as_dict
from tkcons.viewer import lookup, search, store
from tkcons.viewer.export import EXPORT, FORMATS, TYPES, export
from tkcons.viewer.follow import steps
from tkcons.viewer.lookup import Address, Stored
from tkcons.viewer.present import whole
from tkcons.viewer.query import BadQuery, Form, Query

PAGE = 100  # messages
SEARCHED = ("topic", "partition", "offset", "since", "until", "key", "header", "text", "group", "topic_id", "zone")


class UnknownMessage(TkconsError):
    text = _("There is no such message here.")
    code = "unknown_message"
    status = 404


def messages_page(request: HttpRequest, caller: Caller) -> HttpResponse:
    """The list: a whole page, or for htmx the results alone."""
    form = Form(request.GET)
    before = request.GET.get("before", "")
    error = ""
    try:
        query = form.query()
    except BadQuery as wrong:
        query, error = Query(), str(wrong)
    page = None if error else search.find(caller, query, before, PAGE)
    address = _without_empty(request.GET)
    context = {
        "form": form,
        "query": query,
        "rows": [row.row() for row in page.rows] if page else [],
        "page": page,
        "older": _with(address, before=page.before) if page and page.before else None,
        "newest": _with(address, before="") if before else None,
        "address": address.urlencode(),
        "topics": sorted({place.topic for place in store.places() if caller.sees(place.topic)}),
        "may_export": caller.may(EXPORT),
        "formats": list(FORMATS),
        "live": not before and not error,
    }
    fragment = "HX-Request" in request.headers and "HX-History-Restore-Request" not in request.headers
    template = "tkcons/results.html" if fragment else "tkcons/read.html"
    response = render(request, template, context, status=400 if error and not fragment else 200)
    response["Cache-Control"] = "no-store"
    return response


@guarded()
def message(request: HttpRequest, caller: Caller, *, topic: str, partition: str, offset: str) -> HttpResponseBase:
    """One message: its page, JSON where that is asked for, its value with ?download."""
    address = _address(request, topic, partition, offset)
    stored = lookup.look_up(caller, address)
    found = stored.message
    if found is None:
        if not wants_page(request) or not (stored.places or is_consumed(topic)):
            raise UnknownMessage
        return _message_page(request, caller, stored, None)
    if "download" in request.GET:
        place = found.position
        return download(found.value, f"{place.topic}-{place.partition}-{found.offset}")
    if wants_page(request):
        return _message_page(request, caller, stored, found)
    return JsonResponse(as_dict(found) | {"groups": [place.group for place in stored.places]})


@guarded()
def export_view(request: HttpRequest, caller: Caller) -> HttpResponseBase:
    """/tkcons/export?format=csv|jsonl|txt with the fields of a search."""
    kind = request.GET.get("format", "csv")
    if kind not in FORMATS:
        raise BadQuery(_("The format is one of %(known)s."), known=", ".join(FORMATS))
    response = stream(request, export(caller, Form(request.GET).query(), kind), TYPES[kind])
    response["Content-Disposition"] = f'attachment; filename="messages.{kind}"'
    return response


def is_consumed(topic: str) -> bool:
    """Whether a group of this project reads the topic, though nothing of it is stored yet."""
    return any(topic in spec.topics for spec in groups.specs().values())


def _address(request: HttpRequest, topic: str, partition: str, offset: str) -> Address:
    topic_id = request.GET.get("topic_id", "")
    if len(partition) > 9 or len(offset) > 18 or "\0" in topic_id:  # which PostgreSQL does not even compare
        raise UnknownMessage
    return Address(topic, int(partition), int(offset), topic_id, request.GET.get("group", ""))


def _message_page(request: HttpRequest, caller: Caller, stored: Stored, found: Message | None) -> HttpResponse:
    address = stored.address
    base = f"{reverse('tkcons:read')}/{quote(address.topic, safe='')}/{address.partition}"
    suffix = f"?topic_id={quote(address.topic_id)}" if address.topic_id else ""
    context: dict[str, object] = {
        "stored": stored,
        "address": address,
        "steps": steps(stored, caller),
        "kept": f"{suffix[1:]}&" if suffix else "",
    }
    if found is not None:
        older, newer = lookup.neighbours(found)
        context |= {
            "message": found,
            "whole": whole(found, everything="all" in request.GET),
            "older": f"{base}/{older}{suffix}" if older is not None else None,
            "newer": f"{base}/{newer}{suffix}" if newer is not None else None,
        }
    response = render(request, "tkcons/message.html", context, status=200 if found else 202)
    response["Cache-Control"] = "no-store"
    return response


def download(value: Any, name: str) -> HttpResponse:
    """The value (bytes, a memoryview or None) as it is, but for what is masked; never as what a browser would run."""
    data = mask().data(None if value is None else bytes(value)) or b""
    safe = "".join(c if c.isascii() and (c.isalnum() or c in "._-") else "_" for c in name)
    response = HttpResponse(data, content_type="application/octet-stream")
    response["Content-Disposition"] = f'attachment; filename="{safe}.bin"'
    response["X-Content-Type-Options"] = "nosniff"
    response["Cache-Control"] = "no-store"
    return response


def _without_empty(given: QueryDict) -> QueryDict:
    """The search in the address, as short as it can be, so that it can be passed on."""
    kept = QueryDict(mutable=True)
    for name in SEARCHED:
        value = given.get(name, "")
        if value and (name != "zone" or given.get("since") or given.get("until")):
            kept[name] = value
    return kept


def _with(address: QueryDict, *, before: str | None) -> str:
    copy = address.copy()
    if before:
        copy["before"] = before
    return "?" + copy.urlencode()
