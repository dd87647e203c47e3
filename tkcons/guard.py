"""What all views share: who asks, which methods act, errors as answers that suit who asked."""

from collections.abc import Callable
from functools import wraps
from typing import Any, ClassVar, Concatenate

from django.conf import settings as django_settings
from django.contrib.auth.views import redirect_to_login
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.shortcuts import render
from django.utils.cache import patch_vary_headers
from django.views.decorators.csrf import csrf_exempt

from tk import access
from tk.access import Caller
from tk.atomic import non_atomic
from tk.body import need_form
from tk.errors import GetRefused, TkError, Unauthenticated
from tk.views import refusal
from tkcons import browse
from tkcons.conf import settings
from tkcons.errors import TkconsError

View = Callable[Concatenate[HttpRequest, Caller, ...], HttpResponseBase]
READS = {"GET", "HEAD"}


class May:
    """What the caller may, for templates: ``{% if request.may.produce %}``."""

    PERMISSIONS: ClassVar[dict[str, str]] = {
        "view": "tkcons.view_payload",
        "export": "tkcons.export",
        "control": "tkcons.control_consumer",
        "letters": "tkcons.view_deadletter",
        "settle": "tkcons.settle_deadletter",
        "produce": "tk.produce",
        "manage": "tk.manage_topics",
    }

    def __init__(self, caller: Caller) -> None:
        self._caller = caller

    def __getitem__(self, name: str) -> bool:
        if name == "topics":
            return any(map(self._caller.may, browse.SEE))
        return self._caller.may(self.PERMISSIONS[name])


def guarded(*, changes: bool = False, by_get: bool = False) -> Callable[[View], Callable[..., HttpResponseBase]]:
    """A view that is told who asks: ``view(request, caller, ...)``; what it raises of ours becomes the answer.

    changes: a POST alone acts. by_get: a GET too, where GET_STARTS allows it, as in the tutorial. Without either the
    view decides by the method. A browser that is not logged in is sent to LOGIN_URL, everybody else gets 401.
    """

    def decorate(view: View) -> Callable[..., HttpResponseBase]:
        @csrf_exempt  # tk.access checks, by Origin, Sec-Fetch-Site and for sessions Django's token
        @non_atomic
        @wraps(view)
        def wrapped(request: HttpRequest, **kwargs: Any) -> HttpResponseBase:
            acts = changes or by_get
            try:
                if acts and request.method != "POST" and not (by_get and _gets_act(request)):
                    raise GetRefused
                caller = access.identify(request, linked=not acts)
                if request.method == "POST":
                    need_form(request)
                request.may = May(caller)  # type: ignore[attr-defined]
                response = view(request, caller, **kwargs)
            except (TkError, TkconsError) as error:
                response = _refused(request, error)
            patch_vary_headers(response, ["Accept", "Cookie", "Authorization", "HX-Request"])
            return response

        return wrapped

    return decorate


def _gets_act(request: HttpRequest) -> bool:
    allowed = django_settings.DEBUG if settings.GET_STARTS is None else settings.GET_STARTS
    return bool(allowed) and request.method == "GET"


def asks_for(request: HttpRequest, kind: str) -> bool:
    """Whether the client names this type itself: a browser names text/html, curl takes anything. htmx wants HTML."""
    return kind in request.headers.get("Accept", "") or (kind == "text/html" and "HX-Request" in request.headers)


def wants_page(request: HttpRequest) -> bool:
    """Whether a browser asks for a page, or htmx in it for a part of one: that names no type."""
    return asks_for(request, "text/html") or "HX-Request" in request.headers


def _refused(request: HttpRequest, error: TkError | TkconsError) -> HttpResponse:
    answer = refusal(error, as_json=asks_for(request, "application/json"))
    if "HX-Request" in request.headers:
        if isinstance(error, Unauthenticated):
            answer["HX-Refresh"] = "true"  # the session is over: loaded anew, the page leads to the login
        return answer
    if not asks_for(request, "text/html") or "Authorization" in request.headers:
        return answer
    if isinstance(error, Unauthenticated) and request.method in READS:
        return redirect_to_login(request.get_full_path())
    page = render(request, "tkcons/error.html", {"error": error}, status=error.status)
    for name, value in answer.items():
        page.headers.setdefault(name, value)
    return page
