"""Content types: application/vnd.kafka[.<embedded format>].v2+json in and out."""

import re

from django.http import HttpRequest

from tk.errors import UnsupportedMedia
from tk.request import media_type
from tkrest.errors import FormatMismatch, NotAcceptable, UnsupportedFormat

V2 = "application/vnd.kafka.v2+json"
BINARY, JSON = "binary", "json"
FORMATS = (BINARY, JSON)
_GENERAL = (V2, "application/vnd.kafka+json", "application/json")
_PLAIN = {"", "application/json", "application/octet-stream"}  # as the REST Proxy takes them: for its default
_KAFKA = re.compile(r"application/vnd\.kafka(?:\.([a-z]+))?(?:\.v2)?\+json")


def of(embedded: str) -> str:
    """The content type of records in this format."""
    return f"application/vnd.kafka.{embedded}.v2+json"


def embedded_in(request: HttpRequest) -> str:
    """The format of the records in a request's body: binary unless the Content-Type says. Raises UnsupportedFormat."""
    if request.META.get("HTTP_CONTENT_ENCODING", "identity").strip().lower() not in {"", "identity"}:
        raise UnsupportedFormat("A content encoding is not taken: send the body as it is.")
    try:
        kind = media_type(request.META.get("CONTENT_TYPE", "")).lower()
    except UnsupportedMedia as error:
        raise UnsupportedFormat(str(error)) from error
    if kind in _PLAIN:
        return BINARY
    found = _KAFKA.fullmatch(kind)
    embedded = (found[1] or BINARY) if found else None
    if embedded not in FORMATS:
        raise UnsupportedFormat(
            "Send application/vnd.kafka.json.v2+json or application/vnd.kafka.binary.v2+json; "
            "formats with schemas are not taken here."
        )
    return embedded


def for_answer(request: HttpRequest) -> str:
    """The content type for an answer without records. Raises NotAcceptable."""
    return _preferred(request, [*_GENERAL, *map(of, FORMATS)]) or _refuse()


def for_records(request: HttpRequest, embedded: str) -> str:
    """The content type for records of an instance of this format. Raises FormatMismatch or NotAcceptable."""
    own = [of(embedded), "application/json"] + ([V2, "application/vnd.kafka+json"] if embedded == BINARY else [])
    found = _preferred(request, own)
    if found:
        return found
    if _preferred(request, [*_GENERAL, *map(of, (*FORMATS, "avro", "jsonschema", "protobuf"))]):
        raise FormatMismatch(f"This consumer instance gives {embedded}: accept {of(embedded)}.")
    return _refuse()


def _preferred(request: HttpRequest, offered: list[str]) -> str | None:
    try:
        return request.get_preferred_type(offered)
    except (ValueError, LookupError):  # a header that cannot be read
        return None


def _refuse() -> str:
    raise NotAcceptable(f"Accept {V2} or application/json.")
