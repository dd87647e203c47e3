"""A Content-Type that Django cannot read (RFC 2231 with a charset that is none) makes it raise before any view or middleware
is reached. Here the request is made without it, and the view refuses the type as it refuses others."""

from typing import Any

from django.core.handlers.asgi import ASGIHandler, ASGIRequest
from django.core.handlers.wsgi import WSGIHandler, WSGIRequest


class _AnyContentType:
    content_type: str | None
    content_params: dict[str, str] | None

    def _set_content_type_params(self, meta: dict[str, Any]) -> None:
        try:
            super()._set_content_type_params(meta)  # type: ignore[misc]
        except (ValueError, LookupError):
            self.content_type, self.content_params = "", {}


class _WSGIRequest(_AnyContentType, WSGIRequest):
    pass


class _ASGIRequest(_AnyContentType, ASGIRequest):
    pass


def any_content_type(application: Any) -> Any:
    """Django's WSGI or ASGI handler, which now makes a request of any Content-Type."""
    if isinstance(application, WSGIHandler):
        application.request_class = _WSGIRequest
    elif isinstance(application, ASGIHandler):
        application.request_class = _ASGIRequest
    return application
