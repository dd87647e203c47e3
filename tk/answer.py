"""What /tkprod answers, the same from Django's view and from the fast lane."""

import logging
from functools import lru_cache
from urllib.parse import quote

import msgspec
from django.conf import settings as django_settings
from django.urls import NoReverseMatch, get_script_prefix, reverse

from tk.conf import settings
from tk.errors import HttpError
from tk.record import Receipt

logger = logging.getLogger(__name__)

TEXT = "text/plain; charset=utf-8"
JSON = "application/json"


class Answer(msgspec.Struct, frozen=True, gc=False):
    """An HTTP answer. headers: beside the content's type and COMMON."""

    status: int
    content_type: str
    body: bytes
    headers: tuple[tuple[str, str], ...] = ()


# The answers are the contract's and never translated, whatever the project's LocaleMiddleware chose.
COMMON = (("Content-Language", "en"), ("Vary", "Accept, Cookie"))
_PRODUCED = Answer(200, TEXT, b"Produced message.")


def wants_json(accept: str) -> bool:
    """Whether the Accept header asks for JSON."""
    return JSON in accept


def produced(receipt: Receipt, *, as_json: bool) -> Answer:
    """The brokers have the message: `Produced message.`, or where it is, with a link to the page that follows it."""
    if not as_json:
        return _PRODUCED
    base = _base(get_script_prefix(), django_settings.ROOT_URLCONF, settings.FOLLOW)
    link = f'<{base}/{quote(receipt.topic)}/{receipt.partition}/{receipt.offset}>; rel="related"'
    return Answer(200, JSON, msgspec.json.encode(receipt), (("Link", link),) if base is not None else ())


@lru_cache(maxsize=100)
def _base(prefix: str, urlconf: str, name: str | None) -> str | None:
    """What the address of each message begins with; None: there is no such page. Looked up once, not for each message."""
    try:
        address = reverse(name or "", kwargs={"topic": "t", "partition": 0, "offset": 0})
    except NoReverseMatch:
        return None
    return address.removesuffix("/t/0/0")


def refused(error: HttpError, *, as_json: bool) -> Answer:
    """The answer to a request that failed: the error's status and message, with its code in a header or in JSON."""
    text = str(error)
    headers = [("X-Error-Code", error.code)]
    if error.retry_after is not None:
        headers.append(("Retry-After", str(error.retry_after)))
    if error.status == 405:
        headers.append(("Allow", "POST"))
    if error.status == 401:
        headers.append(("WWW-Authenticate", "Bearer"))
    if error.status >= 500:
        logger.warning("not produced", extra={"action": "produce", "code": error.code})
    if as_json:
        return Answer(error.status, JSON, msgspec.json.encode({"code": error.code, "error": text}), tuple(headers))
    return Answer(error.status, TEXT, text.encode() + b"\n", tuple(headers))
