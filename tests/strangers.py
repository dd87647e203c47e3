"""Requests to pages, panel and REST Proxy as strangers send them, whole, to Django's WSGI handler. See tests.fuzzing."""

import logging
import random
import time
from collections import Counter, deque
from collections.abc import Callable
from io import BytesIO
from itertools import islice
from typing import Any, NamedTuple, Self

from django.core.handlers.wsgi import WSGIHandler

from tests.fuzzing import CASES, SECONDS, SEED, TIMES, WORDS, changed
from tests.storing import store
from tests.unit.test_fuzz import SEARCHES, TYPES
from tk.request import FORM
from tkcons import web
from tkcons.models import DeadLetter
from tkcons.viewer import hub
from tkrest.media import V2
from tutorialkafka.content_type import any_content_type

KEY = b"0" * 31
FIND = [
    b"group=g&topic=orders&state=waiting&q=text",
    b"since=0001-01-01T00:00&until=9999-12-31T23:59&zone=Asia/Tokyo",
    b"since=2026-01-01T00:00&until=2026-02-01T00:00&before=2026-01-01T00:00:00%2B00:00_" + KEY,
]
MOVE = [
    b"name=g&to=offset&offset=3&topic=orders&partition=0",
    b"name=g&to=time&time=2026-01-01T00:00:00",
    b"name=g&to=time&time=0001-01-01T00:00&zone=Asia/Tokyo",
    b"name=g&to=earliest",
]
LOOK = [
    b"partition=0&offset=2&limit=25",
    b"time=2026-01-01T00:00:00",
    b"before=3&limit=50",
    b"time=1969-12-31T23:59&zone=UTC",
]
PRODUCE = [b"topic=orders&value=b&headers=a%3A+b%0Ac%3A&repeat=3&key=k", b"topic=orders&tombstone=on&repeat=1"]
NEW = [b"name=fresh&partitions=3&replication=1&cleanup.policy=compact&retention.ms=60000"]
SETTLE = [b"what=resend&id=%s1&id=%s2" % (KEY, KEY), b"what=discard&sure=1&id=%s1" % KEY, b"what=resend&sure=1&id=%00"]
NAMES = [b"name=g", b"name=g&state=paused&panel=1", b"state=running"]
NONE = [b""]

# Path, queries, forms: right ones. Those with something to read come more often than the others.
Addresses = list[tuple[bytes, list[bytes], list[bytes]]]
PAGES: Addresses = [
    (b"/tkcons", NONE, NONE),
    (b"/tkcons/stop", NONE, NONE),
    (b"/tkcons/pause", NONE, NONE),
    (b"/tkcons/status", NONE, NONE),
    (b"/tkcons/topics/orders", NONE, NONE),
    (b"/tkcons/topics/orders/messages/0/3", NONE, NONE),
    (b"/tkcons/deadletters/%s1" % KEY, NONE, NONE),
    *[
        (b"/tkcons/group", NAMES, NAMES),
        (b"/tkcons/group/move", MOVE, MOVE),
        (b"/tkcons/group/skip", NAMES, NAMES),
        (b"/tkcons/topics", [b"q=o&after=a"], NONE),
        (b"/tkcons/new-topic", NONE, NEW),
        (b"/tkcons/topics/orders/delete", NONE, [b"typed=orders"]),
        (b"/tkcons/topics/orders/messages", LOOK, NONE),
        (b"/tkcons/produce", [b"topic=orders"], PRODUCE),
        (b"/tkcons/deadletters", FIND, NONE),
        (b"/tkcons/deadletters/settle", NONE, SETTLE),
        (b"/tkcons/read", [*SEARCHES, b"format=jsonl", b"topic=orders&before=17", b"before=cAAE"], NONE),
        (b"/tkcons/read/orders/0/1", [b"topic_id=orders&group=g&all", b"download", b"topic_id=%00"], NONE),
        (b"/tkcons/events", [*SEARCHES, b"poll=1&after=cAQE"], NONE),
        (b"/tkcons/export", [*(b"format=csv&" + each for each in SEARCHES), b"format=jsonl", b"format=txt"], NONE),
    ]
    * 3,
]
HEADERS = {
    "HTTP_ACCEPT": [b"text/html", b"application/json", b"*/*", b"application/x-ndjson", V2.encode()],
    "HTTP_HX_REQUEST": [b"true"],
    "HTTP_HX_CURRENT_URL": [b"http://localhost/tkcons/read"],
    "HTTP_AUTHORIZATION": [b"Bearer tk_abc", b"Basic YTpi"],
    "HTTP_COOKIE": [
        b'sessionid=abcdefghijkl; csrftoken="x"; django_language=de; messages="a"',
        b'sessionid="abcdefgh\\000"',
    ],
    "HTTP_ORIGIN": [b"http://localhost", b"null"],
    "HTTP_SEC_FETCH_SITE": [b"same-origin", b"cross-site"],
    "HTTP_REFERER": [b"http://localhost/"],
    "HTTP_HOST": [b"localhost", b"127.0.0.1:8000"],
    "HTTP_ACCEPT_LANGUAGE": [b"de-DE,de;q=0.9,en;q=0.8"],
    "HTTP_ACCEPT_ENCODING": [b"gzip"],
    "HTTP_RANGE": [b"bytes=0-9"],
    "HTTP_IF_MODIFIED_SINCE": [b"Sat, 28 Nov 2026 00:00:00 GMT"],
    "HTTP_LAST_EVENT_ID": [b"cAQE", b"cAQECBQ"],
    "HTTP_X_FORWARDED_FOR": [b"10.0.0.1"],
    "HTTP_X_FORWARDED_HOST": [b"localhost"],
    "HTTP_X_CSRFTOKEN": [b"x"],
    "HTTP_HX_CURRENT_URL_URI_AUTOENCODED": [b"true"],
    "CONTENT_TYPE": [FORM.encode(), b"multipart/form-data; boundary=x", *TYPES],
}
LIKELY = {"HTTP_ACCEPT": 0.7}  # others: 0.04
PART = b'--x\r\nContent-Disposition: form-data; name="%s"\r\n\r\n%s\r\n'


class Strange(NamedTuple):
    """A request: its environ, and what to tell of it."""

    environ: dict[str, Any]
    told: str


def fill() -> None:
    """What the pages have to show: text, JSON and bytes that are none, letters that wait."""
    store("<b>one</b>", '{"a": [1, 2.5, "ü"]}', b"\xff\0", None, "text", key="k", headers=(("a", b"b"), ("c", None)))
    values = (b"<i>", b"[1]", None, b"\xff")
    letters = [{"id": (KEY + b"%d" % number).decode(), "value": value} for number, value in enumerate(values)]
    where = {"group": "g", "topic": "orders", "topic_id": "orders", "partition": 0, "offset": 1, "tries": 1}
    at = {"made_at": "2026-01-01T00:00:00Z", "changed_at": "2026-01-01T00:00:00Z"}
    DeadLetter.objects.bulk_create(DeadLetter(**each, **where, **at, cause="text") for each in letters)


def strange(draw: random.Random, addresses: Addresses, kinds: list[str]) -> Strange:
    """As a server lets it through: a path that is decoded, no line ends and no NUL in headers, a length that is a number."""
    path, queries, bodies = draw.choice(addresses)
    if draw.random() < 0.03:
        path = changed(draw, [path])
    query = _some(draw, queries if draw.random() < 0.9 else SEARCHES)
    method = "POST" if draw.random() < (0.3 if bodies is NONE else 0.6) else "GET"
    if draw.random() < 0.1:
        method = draw.choice(("HEAD", "OPTIONS", "PUT", "DELETE"))
    body, kind = b"", ""
    if method == "POST" or (bodies is not NONE and draw.random() < 0.1):
        body, kind = _some(draw, bodies), draw.choice(kinds)
        if kind == FORM and draw.random() < 0.05:  # the same fields, in parts
            pairs = [each.partition(b"=") for each in body.split(b"&")]
            body = b"".join(PART % (name, value) for name, _, value in pairs) + b"--x--\r\n"
            body, kind = body if draw.random() < 0.5 else changed(draw, [body]), "multipart/form-data; boundary=x"
    environ = {
        "REQUEST_METHOD": method,
        "SCRIPT_NAME": "",
        "PATH_INFO": path.decode("latin-1"),
        "QUERY_STRING": query.replace(b"\0", b"").decode("latin-1"),
        "SERVER_NAME": "localhost",
        "SERVER_PORT": "8000",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "REMOTE_ADDR": "127.0.0.1",
        "CONTENT_TYPE": kind,
        "CONTENT_LENGTH": str(len(body) + draw.choice((0, 0, 0, 0, 9, -1))) if body else "",
        "wsgi.url_scheme": "http",
        "wsgi.input": BytesIO(body),
        "wsgi.multithread": True,
    }
    for name, right in HEADERS.items():
        if draw.random() < LIKELY.get(name, 0.04):
            value = draw.choice(right) if draw.random() < 0.7 else changed(draw, right)
            environ[name] = value.translate(None, b"\0\r\n").decode("latin-1")
    shown = {name: value for name, value in environ.items() if name[:4] != "wsgi"}
    return Strange(environ, f"{shown!r} {body!r} (FUZZ_SEED={SEED})")


def _some(draw: random.Random, right: list[bytes]) -> bytes:
    return draw.choice(right) if draw.random() < 0.3 else changed(draw, right, [*TIMES, *WORDS])


class Site:
    """Django's handler with the project's middleware, asked by the person at this machine."""

    def __init__(self, settings: Any, monkeypatch: Any) -> None:
        settings.DEBUG = settings.DEBUG_PROPAGATE_EXCEPTIONS = True
        settings.TKCONS = {"SINKS": {"s": {"class": "tkcons.sinks.DatabaseSink", "topics": ["orders"], "group": "g"}}}
        monkeypatch.setattr(web, "ensure_started", lambda: None)
        self._handler = any_content_type(WSGIHandler())

    def __enter__(self) -> Self:
        logging.disable(logging.ERROR)  # a line for each refusal costs more than the refusal
        return self

    def __exit__(self, *_: object) -> None:
        logging.disable(logging.NOTSET)
        hub.close()
        hub._hub = None  # one that was closed takes nobody any more: the next Site in this process gets another

    def fuzz(
        self,
        count: int = CASES,
        addresses: Addresses = PAGES,
        kinds: list[str] | None = None,
        before: Callable[[], object] = lambda: None,
    ) -> None:
        """Ask so often; `before` each is called what makes good what another has deleted."""
        draw = random.Random(SEED)
        seen: Counter[int] = Counter()
        for _ in range(count):
            before()
            environ, told = strange(draw, addresses, kinds or [FORM])
            began = time.thread_time()
            try:
                status = self.ask(environ)
            except Exception as error:
                raise AssertionError(told) from error
            seconds = time.thread_time() - began
            assert status < 500, told
            assert seconds < SECONDS, f"{seconds:.1f} s for {told}"
            seen[status] += 1
        assert seen[200] + seen[204] > count / 10, seen
        assert seen.keys() >= {200, 400, 401, 403, 404, 405}, seen

    def ask(self, environ: dict[str, Any]) -> int:
        """The answer's status. The answer is read; of a stream of events its beginning."""
        answer = self._handler(environ, lambda *_: None)
        try:
            endless = answer.headers.get("Content-Type") == "text/event-stream"
            deque(islice(answer, 1 if endless else None), maxlen=0)
        finally:
            answer.close()
        return int(answer.status_code)
