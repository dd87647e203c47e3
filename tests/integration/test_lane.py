"""The fast lane and Django's own view give the same answers, byte for byte; and what the lane remembers of heads."""

import asyncio
import json
import threading
import time

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as examples
from hypothesis import strategies as st

from tests.integration.lanes import Answer, Both, ask, events, lane_alone, scope
from tk import access, aproducer, producer
from tk.errors import OutcomeUnknown
from tk.models import Token

pytestmark = [pytest.mark.kafka, pytest.mark.django_db(transaction=True)]

FORM = "application/x-www-form-urlencoded"


def token(**fields) -> str:
    text, digest = access.new_token()
    Token.objects.create(name="t", digest=digest, **fields)
    return text


JSON_ASKED = ("accept", "application/json")


@pytest.mark.parametrize(
    ("method", "target", "headers", "body", "status"),
    [
        ("GET", "/tkprod?message=hello", [], b"", 200),
        ("GET", "/tkprod/?message=gr%C3%BC%C3%9Fe", [JSON_ASKED], b"", 200),
        ("POST", "/tkprod", [("content-type", FORM)], b"message=a+b", 200),
        ("POST", "/tkprod/", [("content-type", "text/plain")], "ü".encode(), 200),
        ("POST", "/tkprod?key=k", [("content-type", "application/octet-stream"), JSON_ASKED], b"\0\xff", 200),
        (
            "POST",
            "/tkprod",
            [("content-type", "application/json")],
            b'{"message": {"a": 1}, "headers": {"a": "b"}}',
            200,
        ),
        ("POST", "/tkprod?message=a", [], b"", 200),
        ("GET", "/tkprod?message=a", [("content-encoding", "gzip")], b"", 200),
        ("GET", "/tkprod", [], b"", 400),
        ("GET", "/tkprod?message=%ff", [JSON_ASKED], b"", 400),
        ("GET", "/tkprod?message=\u20ac", [], b"", 400),
        ("GET", "/tkprod?message=a&topic=no-such", [], b"", 404),
        ("GET", "/tkprod?message=a&topic=a/b", [JSON_ASKED], b"", 400),
        ("GET", "/tkprod?message=a&partition=7", [], b"", 400),
        ("POST", "/tkprod", [("content-type", "image/png")], b"x", 415),
        ("POST", "/tkprod", [("content-type", "text/plain"), ("content-encoding", "gzip")], b"x", 415),
        ("POST", "/tkprod", [("content-type", "text/plain"), ("content-length", "99999999")], b"x", 413),
        ("POST", "/tkprod", [("content-type", "application/json")], b"{", 400),
        ("POST", "/tkprod", [("content-type", "application/json; charset=utf-16")], b"{}", 415),
        ("GET", "/tkprod?message=a", [("sec-fetch-site", "cross-site")], b"", 403),
        ("GET", "/tkprod?message=a", [("origin", "null")], b"", 403),
        ("GET", "/tkprod?message=a", [("origin", "http://localhost")], b"", 200),
        ("POST", "/tkprod?message=a", [("x-forwarded-for", "127.0.0.1")], b"", 401),
        ("POST", "/tkprod?message=a", [("authorization", "Bearer tk_wrong"), JSON_ASKED], b"", 401),
        ("GET", "/tkprod?message=a", [("accept-language", "de")], b"", 200),
        ("GET", "/tkprod?message=a", [("sec_fetch_site", "cross-site")], b"", 200),
        (
            "POST",
            "/tkprod",
            [("content-type", "application/json"), ("content-length", "99999999")],
            b'{"message":1}',
            413,
        ),
        ("POST", "/tkprod?lines=1&summary=1", [("content-type", "text/plain")], b"a\n\nb", 200),
        ("POST", "/tkprod?lines=1", [("content-type", "text/plain")], b"\n\xff\n", 200),
        ("POST", "/tkprod?lines=1", [("content-type", "text/plain")], b"", 400),
        ("POST", "/tkprod?lines=2", [("content-type", "text/plain")], b"a", 400),
        ("POST", "/tkprod?lines=1&topic=no-such", [("content-type", "text/plain")], b"a", 404),
        ("POST", "/tkprod?summary=1", [("content-type", "application/x-ndjson")], b'{"value":1}\nx', 200),
        ("POST", "/tkprod?atomic=1&summary=1", [("content-type", "application/x-ndjson")], b'{"value":1}', 200),
        ("POST", "/tkprod?atomic=1", [("content-type", "application/json")], b"[1]", 400),
        ("POST", "/tkprod", [("content-type", "application/x-ndjson"), ("content-encoding", "gzip")], b"x", 415),
        ("POST", "/tkprod", [("content-type", "application/x-ndjson"), ("origin", "null")], b"x", 403),
    ],
)
def test_the_same_answer(both, method, target, headers, body, status):
    assert both.ask(scope(method, target, headers), body)[0] == status
    assert both.djangos == 0


@pytest.mark.parametrize(
    ("method", "target", "headers", "status"),
    [
        ("HEAD", "/tkprod?message=a", [], 405),
        ("PUT", "/tkprod?message=a", [], 405),
        ("OPTIONS", "/tkprod?message=a", [], 405),
        ("GET", "/tkprodx", [], 404),
        ("POST", "/tkprod?message=a", [("cookie", "sessionid=x")], 200),
        ("POST", "/tkprod?lines=1", [("content-type", "text/plain"), ("idempotency-key", "k")], 400),
    ],
)
def test_what_is_djangos(both, method, target, headers, status):
    assert both.ask(scope(method, target, headers), b"")[0] == status
    assert both.djangos == 1


@pytest.mark.parametrize("count", [1, 1_000])  # the second is longer than a single message may be
def test_an_array_is_a_batch_from_its_first_byte_on(both, settings, topic, count):
    settings.TK = {"TOPIC": topic, "MAX_VALUE_BYTES": 1_000, "MAX_KEY_BYTES": 10, "MAX_HEADERS_BYTES": 10}
    body = json.dumps([{"value": "a"}] * count).encode()
    given = scope("POST", "/tkprod?summary=1", [("content-type", "application/json")])
    assert json.loads(both.ask(given, body[:5], body[5:])[2]) == {"records": count, "produced": count, "failed": 0}
    assert both.djangos == 0


def test_an_idempotency_key_is_djangos(both):
    given = scope("POST", "/tkprod?message=a", [("idempotency-key", "k"), JSON_ASKED])
    first, second = (asyncio.run(ask(both.lane, dict(given), events())) for _ in range(2))
    assert (first[0], second[2]) == (200, first[2])
    assert both.djangos == 2


def test_an_acknowledgement_that_nobody_fetches_is_unknown_in_time(both, settings, topic, monkeypatch):
    monkeypatch.setattr("tk.producer.Producer._poll", lambda made: made._ending.wait())
    settings.TK = {"TOPIC": topic, "REQUEST_TIMEOUT": 0.5, "DELIVERY_TIMEOUT": 0.4}

    async def go():
        answer = await asyncio.wait_for(ask(lane_alone(), scope("GET", "/tkprod?message=a"), events()), 10)
        await asyncio.to_thread(producer.close)  # which fetches it, while its loop still runs
        return answer

    assert asyncio.run(go())[0] == 504


def test_a_host_that_is_not_allowed_is_djangos(both, settings):
    settings.DEBUG = False  # its page for the developer tells more than can be compared
    given = scope("POST", "/tkprod?message=a")
    given["headers"] = [(b"host", b"evil.example")]
    assert both.ask(given)[0] == 400
    assert both.djangos == 1


def test_without_debug(both, settings, topic):
    settings.DEBUG = False
    settings.TK = {"TOPIC": topic, "TOPICS": [topic, "other"]}
    assert both.ask(scope("GET", "/tkprod?message=a"))[0] == 405
    assert both.ask(scope("POST", "/tkprod?message=a"))[0] == 401
    bearer = [("authorization", f"Bearer {token(scopes=['tk.produce'], topics=[topic])}")]
    assert both.ask(scope("POST", "/tkprod?message=a", bearer))[0] == 200
    assert both.ask(scope("POST", "/tkprod?message=a&topic=other", bearer))[0] == 403
    none = [("authorization", f"Bearer {token(scopes=['tkcons.view_payload'])}")]
    assert both.ask(scope("POST", "/tkprod?message=a", none))[0] == 403
    assert both.djangos == 0


def test_over_https_and_without(both, settings):
    settings.SECURE_HSTS_SECONDS = 60
    both = Both()
    strict = (b"strict-transport-security", b"max-age=60")
    assert strict not in both.ask(scope("GET", "/tkprod?message=a"))[1]
    secure = scope("GET", "/tkprod?message=a", scheme="https")
    assert strict in both.ask(secure)[1]
    assert both.djangos == 0
    settings.SECURE_SSL_REDIRECT = True
    both = Both()
    assert both.ask(scope("GET", "/tkprod?message=a"))[0] == 301
    assert both.ask(secure)[0] == 200


@pytest.mark.parametrize("forced", [True, False])
def test_under_a_prefix(both, settings, forced):
    if forced:
        settings.FORCE_SCRIPT_NAME = "/kafka"
    target = scope("GET", "/kafka/tkprod?message=a", [JSON_ASKED], root_path="" if forced else "/kafka")
    status, headers, _ = both.ask(target)
    assert status == 200
    assert dict(headers)[b"link"].startswith(b"</kafka/")
    assert both.djangos == 0
    settings.ROOT_URLCONF = "tests.integration.urls_prefix"
    assert both.ask(scope("GET", "/kafka/in/a/project/tkprod/?message=a", root_path="/kafka"))[0] == 200
    assert both.djangos == 0


def test_settings_of_djangos_middleware(both, settings):
    settings.PREPEND_WWW = True
    settings.ALLOWED_HOSTS = ["*"]
    assert both.ask(scope("GET", "/tkprod?message=a"))[0] == 301
    assert both.djangos == 1


METHODS = st.sampled_from(["GET", "POST"])
VALUES = st.sampled_from(
    ["", "a", "%C3%BC", "%ff", "%00", "0", "-1", "{}", '{"a":"b"}', "[1]", "k" * 300, "no-such-topic"]
)
QUERIES = st.lists(
    st.tuples(st.sampled_from(["message", "topic", "key", "partition", "headers", "timestamp", "x"]), VALUES),
    max_size=4,
).map(lambda pairs: "&".join(f"{name}={value}" for name, value in pairs))
HEADERS = st.lists(
    st.sampled_from(
        [
            ("content-type", FORM),
            ("content-type", "application/json"),
            ("content-type", "text/plain; charset=utf-8"),
            ("content-type", "text/plain; charset*=x"),
            ("content-type", "\u00e9"),
            ("content-encoding", "gzip"),
            ("content-encoding", "identity"),
            ("accept", "application/json"),
            ("accept", "text/html, */*"),
            ("sec-fetch-site", "same-site"),
            ("origin", "http://localhost:1"),
            ("origin", "http://["),
            ("authorization", "Bearer"),
            ("authorization", "Basic eDp5"),
            ("forwarded", "for=1.1.1.1"),
            ("x-forwarded-host", "evil.example"),
            ("accept-language", "xx"),
            ("content_type", "text/plain"),
        ]
    ),
    max_size=4,
)
BODIES = st.sampled_from(
    [
        b"",
        b"a",
        b"\xff",
        b"message=a",
        b"message=%ff&key=1",
        b"{",
        b'{"message":"a"}',
        b'{"message":null}',
    ]
)


@given(METHODS, QUERIES, HEADERS, BODIES, st.integers(0, 12))
@examples(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
def test_the_same_answer_whatever_is_asked(both, method, query, headers, body, cut):
    answer = both.ask(scope(method, f"/tkprod?{query}", headers), body[:cut], body[cut:])
    assert answer[0] < 500


def test_a_head_that_is_remembered_says_nothing_of_the_body(both, read, topic):
    given = scope("POST", "/tkprod?key=k", [("content-type", "text/plain")])
    for body, status in ((b"a", 200), (b"b", 200), (b"\xff", 400), (b"", 400), (b"x" * 2_000_000, 413), (b"c", 200)):
        assert asyncio.run(ask(both.lane, dict(given), events(body)))[0] == status
    assert [(message.key(), message.value()) for message in read(topic)] == [(b"k", b"a"), (b"k", b"b"), (b"k", b"c")]


@pytest.mark.parametrize(
    ("other", "status"),
    [
        ({"client": ("203.0.113.9", 5000)}, 401),
        ({"query_string": b"key=1&partition=7"}, 400),
        ({"headers": [(b"host", b"localhost"), (b"content-type", b"image/png")]}, 415),
        ({"method": "PUT"}, 405),
        ({"root_path": "/tkprod"}, 404),
        ({"server": ("localhost", 443), "scheme": "https"}, 200),
    ],
)
def test_another_head_is_judged_for_itself(both, other, status):
    given = scope("POST", "/tkprod", [("content-type", "text/plain")])
    for asked, expected in ((given, 200), ({**given, **other}, status), (given, 200)):
        assert asyncio.run(ask(both.lane, dict(asked), events(b"a")))[0] == expected


def test_a_remembered_head_is_believed_no_longer_than_its_token(both, settings, topic):
    settings.DEBUG = False
    settings.TK = {"TOPIC": topic, "TOKEN_SECONDS": 0.3}
    bearer = ("authorization", f"Bearer {token(scopes=['tk.produce'])}")
    given = scope("POST", "/tkprod", [("content-type", "text/plain"), bearer])
    assert asyncio.run(ask(both.lane, dict(given), events(b"a")))[0] == 200
    Token.objects.all().delete()
    time.sleep(0.3)
    assert asyncio.run(ask(both.lane, dict(given), events(b"a")))[0] == 401


def test_belief_that_ends_while_a_head_is_judged(both, settings, topic, monkeypatch):
    settings.DEBUG = False
    settings.TK = {"TOPIC": topic}
    monkeypatch.setattr(access, "believed_until", lambda request: time.monotonic() + 1)
    bearer = ("authorization", f"Bearer {token(scopes=['tk.produce'])}")
    assert both.ask(scope("POST", "/tkprod?message=a", [bearer]), b"")[0] == 200


def test_other_settings_hold_at_once(both, settings, make_topic, read):
    given = scope("POST", "/tkprod", [("content-type", "text/plain")])

    def post(body: bytes) -> Answer:
        return asyncio.run(ask(both.lane, dict(given), events(body)))

    assert post(b"a")[0] == 200
    other = make_topic()
    settings.TK = {"TOPIC": other}
    assert post(b"b")[0] == 200
    assert [message.value() for message in read(other)] == [b"b"]
    settings.X_FRAME_OPTIONS = "SAMEORIGIN"
    assert (b"x-frame-options", b"SAMEORIGIN") in post(b"c")[1]
    settings.ALLOWED_HOSTS = ["elsewhere"]
    assert post(b"d")[0] == 400
    settings.ALLOWED_HOSTS = ["localhost"]
    settings.ROOT_URLCONF = "tests.integration.urls_prefix"
    assert post(b"e")[0] == 404
    assert both.djangos == 2


def test_an_acknowledgement_wakes_its_loop():
    async def go():
        here = aproducer.of_this_loop()
        future = here.loop.create_future()
        threading.Timer(0.1, here.put, (future, OutcomeUnknown())).start()
        return await asyncio.wait_for(future, 10)

    assert isinstance(asyncio.run(go()), OutcomeUnknown)


def test_two_loops(both):
    """Each loop's requests are answered on it, and a closed one is forgotten."""
    for _ in range(3):
        assert both.ask(scope("GET", "/tkprod?message=a"))[0] == 200
