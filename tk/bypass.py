"""The project's middleware, which the fast lane passes by: what it does in its stead, and what it cannot."""

from django.conf import settings as django_settings
from django.http import HttpResponse
from django.utils.module_loading import import_string

from tk.answer import COMMON, Answer
from tk.scope import LaneRequest

# Middleware that adds headers to any answer; the lane adds what they would.
_HEADERS_OF = {
    "django.middleware.security.SecurityMiddleware",
    "django.middleware.locale.LocaleMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "csp.middleware.CSPMiddleware",
}
# Middleware that does nothing for a short answer of text or JSON to a request without a session.
_HARMLESS = {
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.gzip.GZipMiddleware",
    "django.middleware.http.ConditionalGetMiddleware",
    "django_htmx.middleware.HtmxMiddleware",
}


def passed_by() -> list[str]:
    """The project's middleware that the fast lane passes by and cannot stand in for."""
    return [name for name in django_settings.MIDDLEWARE if name not in _HEADERS_OF | _HARMLESS]


def closed() -> bool:
    """Whether the project's settings ask for what only Django's middleware does with each request."""
    return bool(django_settings.PREPEND_WWW or django_settings.DISALLOWED_USER_AGENTS)


def headers(request: LaneRequest, given: Answer) -> list[tuple[bytes, bytes]]:
    """The headers of such an answer, but for its own: COMMON and those that the project's middleware would add to it."""
    response = HttpResponse(status=given.status, content_type=given.content_type)
    for name, value in COMMON:
        response[name] = value
    for name in reversed(django_settings.MIDDLEWARE):
        if name in _HEADERS_OF:
            import_string(name)(lambda _: response).process_response(request, response)
    return [(name.encode("latin-1"), value.encode("latin-1")) for name, value in response.items()]
