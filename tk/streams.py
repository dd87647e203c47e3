"""Long answers under WSGI and ASGI alike, piece by piece."""

from collections.abc import AsyncIterator, Iterable, Iterator

from asgiref.sync import sync_to_async
from django.core.handlers.asgi import ASGIRequest
from django.http import HttpRequest, StreamingHttpResponse


def stream(request: HttpRequest, chunks: Iterable[bytes], content_type: str) -> StreamingHttpResponse:
    """An answer whose chunks are made as the client takes them.

    Under ASGI Django would collect a synchronous iterator whole before it sends the first byte.
    """
    body = _asynchronous(iter(chunks)) if isinstance(request, ASGIRequest) else chunks
    response = _Closing(body, content_type=content_type)
    response.chunks = chunks
    response["X-Content-Type-Options"] = "nosniff"
    response["Cache-Control"] = "no-store"
    return response


class _Closing(StreamingHttpResponse):
    """Closes what its chunks come from where they have a `close`, also when the client takes none of them."""

    chunks: Iterable[bytes] = ()

    def close(self) -> None:
        super().close()
        close = getattr(self.chunks, "close", None)
        if close is not None:
            close()


async def _asynchronous(chunks: Iterator[bytes]) -> AsyncIterator[bytes]:
    def following() -> bytes | None:
        return next(chunks, None)

    while (chunk := await sync_to_async(following)()) is not None:
        yield chunk
