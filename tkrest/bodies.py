"""The requests' bodies, as JSON says them; `read` is strict about their form."""

from typing import TypeVar

import msgspec
from django.core.exceptions import RequestDataTooBig
from django.http import HttpRequest, UnreadablePostError

from tk.body import HALF, refuse_half
from tkrest.conf import settings
from tkrest.errors import BadRequest, BodyTooLarge, Unprocessable

T = TypeVar("T")


class Partition(msgspec.Struct, frozen=True):
    topic: str
    partition: int


class Partitions(msgspec.Struct):
    partitions: list[Partition]


class Offset(msgspec.Struct, frozen=True):
    topic: str
    partition: int
    offset: int
    metadata: str | None = None


class Offsets(msgspec.Struct):
    offsets: list[Offset]


class Topics(msgspec.Struct):
    """A subscription: either of the two."""

    topics: list[str] | None = None
    topic_pattern: str | None = None


class Consumer(msgspec.Struct, forbid_unknown_fields=True):
    """The configuration of a consumer instance. Numbers and flags come as text too."""

    name: str | None = None
    id: str | None = None
    format: str | None = None
    auto_offset_reset: str | None = msgspec.field(default=None, name="auto.offset.reset")
    auto_commit_enable: bool | None = msgspec.field(default=None, name="auto.commit.enable")
    fetch_min_bytes: int | None = msgspec.field(default=None, name="fetch.min.bytes")
    request_timeout_ms: int | None = msgspec.field(default=None, name="consumer.request.timeout.ms")


def read(request: HttpRequest, kind: type[T]) -> T | None:
    """The body as `kind`, None without one. Raises BadRequest (no JSON), Unprocessable (other JSON), BodyTooLarge."""
    data = _body(request)
    if not data.strip():
        return None
    try:
        data.decode()
        return msgspec.json.decode(data, type=kind, strict=kind is not Consumer)
    except msgspec.ValidationError as error:
        raise Unprocessable(f"The body is not what belongs here: {error}") from error
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
        raise BadRequest(f"The body is not JSON in UTF-8: {error}") from error


def need(body: T | None) -> T:
    """The body. Raises Unprocessable where there is none."""
    if body is None:
        raise Unprocessable("There is no body. Data is required.")
    return body


def _body(request: HttpRequest) -> bytes:
    try:
        length = int(request.META.get("CONTENT_LENGTH") or 0)
    except ValueError as error:
        raise BadRequest("The Content-Length is not a number.") from error
    limit: int = settings.MAX_BODY_BYTES
    try:
        body = request.body if length <= limit else None
        if body is not None:
            refuse_half(len(body), length)
    except RequestDataTooBig:  # the project's own limit
        body = None
    except UnreadablePostError as error:
        raise BadRequest(HALF) from error
    if body is None or len(body) > limit:
        raise BodyTooLarge(f"The body is too large; at most {limit} bytes are read.")
    return body
