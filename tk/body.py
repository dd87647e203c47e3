"""The body of a Django request: whole within a bound, or piece by piece; never half of it."""

from collections.abc import Iterator

from django.http import HttpRequest, UnreadablePostError

from tk import request as requests
from tk.errors import BadRequest
from tk.lines import PIECE

HALF = "The body did not arrive whole."


class Body:
    """Reads the request's stream once, also where Django has read it for a CSRF token."""

    def __init__(self, request: HttpRequest) -> None:
        self._request = request
        self._head: bytes | None = None
        self._arrived = 0

    @property
    def length(self) -> int:
        """As the client tells it; 0 where it does not. Raises BadRequest."""
        try:
            return int(self._request.META.get("CONTENT_LENGTH") or 0)
        except ValueError as error:
            raise BadRequest("The Content-Length is not a number.") from error

    def peek(self) -> bytes:
        """The first piece."""
        if self._head is None:
            self._head = self._read(PIECE)
        return self._head

    def pieces(self) -> Iterator[bytes]:
        """All of it, the first piece too. Raises BadRequest where it does not arrive whole."""
        piece = self.peek()
        while piece:
            yield piece
            piece = self._read(PIECE)

    def whole(self) -> bytes:
        """Raises TooLarge over what is accepted for a single message."""
        limit = requests.accepted()
        if self.length > limit:
            raise requests.too_large()
        parts, size = [], 0
        for piece in self.pieces():
            parts.append(piece)
            size += len(piece)
            if size > limit:
                raise requests.too_large()
        return b"".join(parts)

    def _read(self, size: int) -> bytes:
        try:
            data: bytes = self._request.read(size)
            self._arrived += len(data)
            if not data:
                refuse_half(self._arrived, self.length)
        except UnreadablePostError as error:
            raise BadRequest(HALF) from error
        return data


def refuse_half(arrived: int, told: int) -> None:
    """Raise UnreadablePostError, as under ASGI, where less arrived than the client told: WSGI servers end the stream where
    it went away, and say nothing."""
    if arrived < told:
        raise UnreadablePostError(HALF)


def need_form(request: HttpRequest) -> None:
    """Read a form whole, before anybody acts by `request.POST`. Raises BadRequest where it does not arrive."""
    if request.content_type not in {requests.FORM, "multipart/form-data"}:
        return
    length = Body(request).length  # first: Django takes it for a number without asking
    try:
        refuse_half(len(request.body), length)
    except UnreadablePostError as error:
        raise BadRequest(HALF) from error
