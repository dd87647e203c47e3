"""Bodies that the fast lane alone must withstand: cut short, slow, endless; and batches in pieces."""

import asyncio
import json
import time

import pytest

from tests.integration.lanes import ask, events, lane_alone, scope

pytestmark = [pytest.mark.kafka, pytest.mark.django_db(transaction=True)]


def test_a_client_that_goes_away(both, topic, read):
    body = [{"type": "http.request", "body": b"a", "more_body": True}, {"type": "http.disconnect"}]
    for more in ([], [("content-length", "2")]):
        given = scope("POST", "/tkprod", [("content-type", "text/plain"), *more])
        assert asyncio.run(ask(lane_alone(), given, body)) is None
    assert read(topic) == []


@pytest.mark.parametrize("pieces", [[b"abcd"], [b"", b"ab", b"cd"]])
def test_a_body_is_whole_when_all_that_was_told_of_is_there(both, topic, read, pieces):
    """The event that nothing follows is not waited for: it does not come here."""
    body = [{"type": "http.request", "body": piece, "more_body": True} for piece in pieces]
    given = scope("POST", "/tkprod", [("content-type", "text/plain"), ("content-length", "4")])
    assert asyncio.run(asyncio.wait_for(ask(lane_alone(), given, body), 5))[0] == 200
    assert [message.value() for message in read(topic)] == [b"abcd"]


@pytest.mark.parametrize("told", [[], [("content-length", "2"), ("transfer-encoding", "chunked")]])
def test_a_body_in_chunks_is_whole_at_its_end(both, topic, read, told):
    """RFC 9112, 6.3: the transfer's encoding overrides the length."""
    given = scope("POST", "/tkprod", [("content-type", "text/plain"), *told])
    assert asyncio.run(ask(lane_alone(), given, events(b"", b"ab", b"cd")))[0] == 200
    assert [message.value() for message in read(topic)] == [b"abcd"]


@pytest.mark.parametrize("body", [[], [{"type": "http.request", "body": b"a", "more_body": True}]])
def test_a_body_that_does_not_arrive(both, settings, topic, body):
    settings.TK = {"TOPIC": topic, "REQUEST_TIMEOUT": 0.3, "DELIVERY_TIMEOUT": 0.2}
    began = time.monotonic()
    answer = asyncio.run(ask(lane_alone(), scope("POST", "/tkprod", [("content-type", "text/plain")]), body))
    assert answer[0] == 408
    assert time.monotonic() - began < 5


def test_a_body_without_a_length_is_not_read_past_the_limit(both, settings, topic):
    settings.TK = {"TOPIC": topic, "MAX_VALUE_BYTES": 1_000, "MAX_KEY_BYTES": 10, "MAX_HEADERS_BYTES": 10}
    endless = [{"type": "http.request", "body": b"a" * 5_000, "more_body": True}] * 3
    answer = asyncio.run(ask(lane_alone(), scope("POST", "/tkprod", [("content-type", "text/plain")]), endless))
    assert answer[0] == 413


def test_a_batch_over_the_limit_is_not_read_on(both, settings, topic):
    settings.TK = {"TOPIC": topic, "MAX_BATCH_BYTES": 10_000}
    given = scope("POST", "/tkprod", [("content-type", "application/x-ndjson")])
    endless = [{"type": "http.request", "body": b"a" * 5_000, "more_body": True}] * 9
    answer = asyncio.run(ask(both.lane, given, endless))
    assert answer[0] == 413
    assert both.djangos == 0
    told = scope("POST", "/tkprod", [("content-type", "application/x-ndjson"), ("content-length", "10001")])
    assert asyncio.run(ask(lane_alone(), told, endless))[0] == 413


def test_a_strangers_batch_is_refused_before_it_is_laid_down(both, settings):
    settings.DEBUG = False
    given = scope("POST", "/tkprod", [("content-type", "application/x-ndjson")])
    assert asyncio.run(ask(lane_alone(), given, []))[0] == 401


def test_a_sessions_batch_over_the_limit_is_stopped_before_djangos_disk_is_full(both, settings, topic):
    settings.TK = {"TOPIC": topic, "MAX_BATCH_BYTES": 10_000}
    given = scope("POST", "/tkprod", [("content-type", "application/x-ndjson"), ("cookie", "sessionid=x")])
    endless = [{"type": "http.request", "body": b"a" * 5_000, "more_body": True}] * 9
    assert asyncio.run(ask(both.lane, given, endless))[0] == 413
    assert both.djangos == 1


def test_a_batch_that_does_not_arrive_sends_nothing(both, settings, topic, read):
    settings.TK = {"TOPIC": topic, "REQUEST_TIMEOUT": 0.3, "DELIVERY_TIMEOUT": 0.2}
    begun = {"type": "http.request", "body": b"a\nb\n", "more_body": True}
    given = scope("POST", "/tkprod?lines=1", [("content-type", "text/plain")])
    assert asyncio.run(ask(lane_alone(), given, [begun]))[0] == 408
    assert asyncio.run(ask(lane_alone(), given, [begun, {"type": "http.disconnect"}])) is None
    assert read(topic) == []


def test_a_long_answer_comes_in_pieces(both):
    lines = b"x\n" * 20_000
    given = scope("POST", "/tkprod?lines=1", [("content-type", "text/plain")])
    sent = []

    async def send(event):
        sent.append(event)

    waiting = events(lines[:7], lines[7:])

    async def receive():
        return waiting.pop(0)

    asyncio.run(both.lane(given, receive, send))
    assert len(sent) > 4
    told = [json.loads(line) for line in b"".join(event.get("body", b"") for event in sent).splitlines()]
    assert told[-1] == {"summary": {"records": 20_000, "produced": 20_000, "failed": 0}}
    assert [each["offset"] for each in told[:-1]] == list(range(20_000))
    assert both.djangos == 0
