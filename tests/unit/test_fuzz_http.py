"""Whatever is asked of /tkprod, the fast lane and Django's view answer it, alike and with no 5xx. See tests.fuzzing."""

import asyncio
import random
from collections import Counter
from io import BytesIO
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.core.handlers.asgi import ASGIHandler

from tests.fuzzing import CASES, SEED, changed
from tests.unit.test_fuzz import FIELDS, OBJECTS, RECORDS, TYPES
from tk import views
from tk.asgi import fast_lane
from tk.testing import KafkaOutbox
from tutorialkafka.content_type import any_content_type

pytestmark = pytest.mark.django_db(transaction=True)

QUERIES = [*FIELDS, b"", b"", b"summary=1&lines=1", b"atomic=1", b"topic=sample-topic"]
BODIES = [*FIELDS, *OBJECTS, b"hello", b"\n".join(RECORDS), b"[" + b",".join(RECORDS) + b"]", b""]
HEADERS = {
    b"content-type": TYPES,
    b"content-length": [b"10", b"0"],
    b"content-encoding": [b"identity", b"gzip"],
    b"accept": [b"application/json", b"*/*"],
    b"authorization": [b"Bearer tk_abc", b"Basic YTpi"],
    b"idempotency-key": [b"key-1", b"2b1c9d9a-9f0e-4b61-8f0a-6c1f5a1c7e11"],
    b"origin": [b"http://localhost:8000", b"null"],
    b"sec-fetch-site": [b"same-origin", b"cross-site"],
    b"cookie": [b"sessionid=abc; csrftoken=x"],
    b"traceparent": [b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"],
    b"x-forwarded-for": [b"10.0.0.1"],
    b"some_header": [b"a"],
}
LIKELY = {b"content-type": 0.7, b"accept": 0.3}  # others: 0.06


def scope_of(draw: random.Random) -> dict[str, Any]:
    """A request as a server lets it through: without line ends in headers, and a length that is a number."""
    headers = [(b"host", b"localhost")]
    for name, right in HEADERS.items():
        if draw.random() < LIKELY.get(name, 0.06):
            value = draw.choice(right) if draw.random() < 0.7 or name == b"content-length" else changed(draw, right)
            headers.append((name, value.replace(b"\r", b"").replace(b"\n", b"")))
    query = draw.choice(QUERIES) if draw.random() < 0.5 else changed(draw, QUERIES)
    return {
        "type": "http",
        "http_version": "1.1",
        "method": draw.choice(("GET", "POST", "POST", "POST")),
        "scheme": "http",
        "path": draw.choice(("/tkprod", "/tkprod/")),
        "query_string": query,
        "root_path": "",
        "headers": headers,
        "client": ("127.0.0.1", 5000),
        "server": ("localhost", 8000),
    }


Answer = tuple[int, str]  # status and code
make_request = any_content_type(ASGIHandler()).request_class


def djangos(scope: dict[str, Any], body: bytes) -> Answer:
    """The view's answer, or Django's own to a query that is no UTF-8."""
    try:
        request = make_request(scope, BytesIO(body))
    except UnicodeDecodeError:
        return 400, "Django's"
    answer = views.produce(request)
    answer.close()
    return answer.status_code, answer.get("X-Error-Code", "")


async def lanes(lane: Any, scope: dict[str, Any], pieces: list[bytes]) -> Answer:
    waiting = [{"type": "http.request", "body": piece, "more_body": True} for piece in pieces]
    waiting[-1]["more_body"] = False
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return waiting.pop(0)

    async def send(event: dict[str, Any]) -> None:
        sent.append(event)

    await lane(scope, receive, send)
    headers = {name.lower(): value for name, value in sent[0].get("headers", ())}
    return sent[0]["status"], headers.get(b"x-error-code", b"").decode()


def test_the_lane_and_django_answer_alike(settings):
    settings.DEBUG = True  # whoever asks from this machine may
    draw = random.Random(SEED)
    passed_on = 0

    async def django(scope: Any, receive: Any, send: Any) -> None:
        nonlocal passed_on
        passed_on += 1
        body = b""
        more = True
        while more:
            event = await receive()
            body += event["body"]
            more = event["more_body"]
        status, code = await sync_to_async(djangos)(scope, body)
        await send({"type": "http.response.start", "status": status, "headers": [(b"x-error-code", code.encode())]})

    async def go() -> None:
        lane = fast_lane(django)
        for _ in range(CASES):
            scope = scope_of(draw)
            body = draw.choice(BODIES) if draw.random() < 0.5 else changed(draw, BODIES)
            cut = draw.randrange(len(body) + 1)
            if b"%d" % cut == dict(scope["headers"]).get(b"content-length"):
                cut = len(body)  # no server lets more through than the client told of
            told = f"{scope!r} {body!r} (FUZZ_SEED={SEED})"
            try:
                answer = await lanes(lane, dict(scope), [body[:cut], body[cut:]])
                if b"idempotency-key" not in dict(scope["headers"]):  # there the second is the first one's repeat
                    assert await sync_to_async(djangos)(dict(scope), body) in {answer, (400, "Django's")}
            except Exception as error:
                raise AssertionError(told) from error
            assert answer[0] < 500, told
            assert answer[0] == 200 or answer[1], told
            seen[answer] += 1
            kafka.clear()

    seen: Counter[Answer] = Counter()
    with KafkaOutbox({"sample-topic": 3}) as kafka:
        asyncio.run(go())
    assert passed_on > CASES / 50
    assert seen[200, ""] > CASES / 10
    assert {status for status, _ in seen} >= {200, 400, 401, 403, 404, 415}
