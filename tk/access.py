"""Who asks, and what they may do: a Django user, an API token, or in DEBUG the person at this machine.

The services check, not the URLs alone: `require(caller, "tk.produce")`. tkcons asks the same way.
"""

import hashlib
import ipaddress
import math
import secrets
import time
from fnmatch import fnmatchcase
from functools import lru_cache
from typing import Any
from urllib.parse import urlsplit

import msgspec
from django.conf import settings as django_settings
from django.core.exceptions import DisallowedHost
from django.http import HttpRequest
from django.middleware.csrf import CsrfViewMiddleware
from django.utils import timezone
from django.utils.translation import gettext_noop as _

from tk.body import need_form
from tk.conf import settings
from tk.errors import CrossSite, Forbidden, Unauthenticated

# A request that came through another machine says so in one of these; the person at this machine it is not.
_FORWARDED = (
    "HTTP_FORWARDED",
    "HTTP_VIA",
    "HTTP_X_FORWARDED_FOR",
    "HTTP_X_FORWARDED_HOST",
    "HTTP_X_FORWARDED_PROTO",
    "HTTP_X_REAL_IP",
)


class Caller(msgspec.Struct, frozen=True):
    """Somebody who asks. `name` stands in logs and records of who did what."""

    name: str
    user: Any = None  # the Django user, where there is one
    scopes: frozenset[str] | None = None  # of a token: it may do no more
    topics: tuple[str, ...] = ()  # of a token: patterns
    everything: bool = False  # at this machine in DEBUG, or Django code itself
    identity: str = ""  # where names may repeat: which user or token it is

    def may(self, permission: str) -> bool:
        if self.everything:
            return True
        if self.scopes is not None and permission not in self.scopes:
            return False
        if self.user is None:
            return self.scopes is not None
        return bool(self.user.is_active and self.user.has_perm(permission))

    def sees(self, topic: str) -> bool:
        """Whether the topic is among those that the token names; a caller without such a list sees every topic."""
        return not self.topics or any(fnmatchcase(topic, pattern) for pattern in self.topics)


CODE = Caller("django", everything=True)  # the project's own code and command line


def require(caller: Caller, permission: str, topic: str | None = None) -> None:
    """Raise Unauthenticated or Forbidden unless the caller may do this (to this topic)."""
    if not caller.may(permission):
        if not caller.name:
            raise Unauthenticated
        raise Forbidden(_("%(name)s lacks the permission %(permission)s."), name=caller.name, permission=permission)
    if topic is not None and not allows(caller, topic):
        raise Forbidden(
            _("The topic %(topic)r is not among those that requests may name: see TK['TOPICS']."), topic=topic
        )


def allows(caller: Caller, topic: str) -> bool:
    """Whether the caller may name this topic; Django code may name any."""
    if caller is CODE:
        return True
    patterns = settings.TOPICS
    if patterns is None:
        if topic == settings.TOPIC:
            return caller.sees(topic)
        patterns = ["[!_]*"] if django_settings.DEBUG else []
    return any(fnmatchcase(topic, p) for p in patterns) and caller.sees(topic)


def identify(request: HttpRequest, *, linked: bool = False) -> Caller:
    """Who sent the request. Raises CrossSite when a browser says that another site did, Unauthenticated at a bad token.

    A request that comes with a browser's cookies, or with none, may be another site's doing; a token's may not.
    linked: a page that only shows: a person may follow another site's link to it.
    """
    authorization = request.META.get("HTTP_AUTHORIZATION", "")
    scheme, _, token = authorization.partition(" ")
    if scheme.lower() == "bearer":
        return _by_token(token.strip())
    if not (linked and _is_link(request)):
        refuse_cross_site(request)
    user = getattr(request, "user", None)
    if user is not None and user.is_authenticated:
        _check_csrf(request)
        return Caller(user.get_username(), user, identity=f"user {user.pk}")
    if is_local(request):
        return Caller("local", everything=True)
    return Caller("")


def is_local(request: HttpRequest) -> bool:
    """Whether this is DEBUG and the person at this machine: a loopback peer, an allowed Host, nothing forwarded."""
    if not django_settings.DEBUG or any(name in request.META for name in _FORWARDED):
        return False
    try:
        request.get_host()
    except DisallowedHost:
        return False
    return _is_loopback(request.META.get("REMOTE_ADDR") or "")


@lru_cache(maxsize=1_000)
def _is_loopback(text: str) -> bool:
    try:
        address = ipaddress.ip_address(text)
    except ValueError:  # no peer
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return bool((mapped or address).is_loopback)


def refuse_cross_site(request: HttpRequest) -> None:
    """Raise CrossSite when the browser says that another site sent this, whatever the method."""
    site = request.META.get("HTTP_SEC_FETCH_SITE", "none")
    origin = request.META.get("HTTP_ORIGIN")
    if origin is None and site in {"none", "same-origin"}:
        return
    if origin is not None and (origin in django_settings.CSRF_TRUSTED_ORIGINS or _own(request, origin)):
        return
    raise CrossSite


def _is_link(request: HttpRequest) -> bool:
    """Whether the browser says that this is a page of its own that it opens, and no form, frame or script."""
    told = (request.method, request.META.get("HTTP_SEC_FETCH_MODE"), request.META.get("HTTP_SEC_FETCH_DEST"))
    return told == ("GET", "navigate", "document") and "HTTP_ORIGIN" not in request.META


def _own(request: HttpRequest, origin: str) -> bool:
    try:
        parts = urlsplit(origin)
    except ValueError:  # no URL
        return False
    return parts.scheme == request.scheme and parts.netloc == request.get_host()


def _check_csrf(request: HttpRequest) -> None:
    """Django's own check for a request that changes something and comes with a session; our views are exempt from it."""
    if request.method in {"GET", "HEAD", "OPTIONS"}:
        return
    need_form(request)  # the token may be in it; Django reads one of several parts only once
    refused = CsrfViewMiddleware(lambda _: None).process_view(request, lambda _: None, (), {})  # type: ignore[arg-type, return-value]
    if refused is not None:
        raise CrossSite(_("The CSRF token is missing or wrong: send it as csrfmiddlewaretoken or X-CSRFToken."))


def new_token() -> tuple[str, str]:
    """A token and its digest; the token is shown once, the digest is stored."""
    token = f"tk_{secrets.token_urlsafe(32)}"
    return token, digest(token)


def digest(token: str) -> str:
    """SHA-256 suffices: a token is 256 random bits, not a password that somebody chose."""
    return hashlib.sha256(token.encode()).hexdigest()


def believed_until(request: HttpRequest) -> float:
    """Until when, by time.monotonic(), `identify` answers without asking the database; infinite where nobody is asked."""
    scheme, _, token = request.META.get("HTTP_AUTHORIZATION", "").partition(" ")
    if scheme.lower() != "bearer":
        return math.inf
    entry = _believed.get(digest(token.strip()))
    return -math.inf if entry is None else entry[0] + float(settings.TOKEN_SECONDS)


_believed: dict[str, tuple[float, Caller]] = {}


def _by_token(token: str) -> Caller:
    """The token's caller; a look at the database is believed for TOKEN_SECONDS, so a revocation holds after that."""
    key = digest(token)
    now = time.monotonic()
    entry = _believed.get(key)
    if entry is not None and now - entry[0] < settings.TOKEN_SECONDS:
        return entry[1]
    caller = _look_up(key)
    if len(_believed) > 10_000:
        _believed.clear()
    _believed[key] = (now, caller)
    return caller


def _look_up(key: str) -> Caller:
    from tk.models import Token

    token = Token.objects.select_related("user").filter(digest=key, revoked_at=None).first()
    if token is None or (token.expires_at is not None and token.expires_at <= timezone.now()):
        raise Unauthenticated("The token is unknown, revoked or expired.")
    if token.user is None and token.user_name:
        raise Unauthenticated("The token's user is gone.")
    return Caller(
        f"token {token.name}", token.user, frozenset(token.scopes), tuple(token.topics), identity=f"token {token.pk}"
    )
