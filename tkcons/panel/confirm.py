"""The page between a button and what cannot be taken back: works with links and forms alone."""

from collections.abc import Mapping, Sequence

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render

from tk.errors import HttpError


def ask(
    request: HttpRequest,
    *,
    title: str,
    action: str,
    back: str,
    button: str,
    texts: Sequence[str] = (),
    facts: Sequence[tuple[str, object]] = (),
    fields: Mapping[str, str | Sequence[str]] | None = None,
    typed: str = "",
    error: HttpError | None = None,
) -> HttpResponse:
    """A question whose form posts `fields` to `action`. typed: a name that the person must type. error: why it failed."""
    pairs = [
        (name, value)
        for name, given in (fields or {}).items()
        for value in ([given] if isinstance(given, str) else given)
    ]
    context = {
        "title": title,
        "action": action,
        "back": back,
        "button": button,
        "texts": texts,
        "facts": facts,
        "pairs": pairs,
        "typed": typed,
        "error": error,
    }
    return render(request, "tkcons/confirm.html", context, status=error.status if error is not None else 200)
