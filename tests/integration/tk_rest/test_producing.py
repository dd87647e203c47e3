"""Producing over the REST Proxy: what is answered, and what is then in the topic."""

import pytest

from tests.integration.tk_rest.conftest import BINARY, JSON, V2, Rest, b64

pytestmark = [pytest.mark.kafka, pytest.mark.django_db]


def test_json_is_sent_as_it_was_written(local, read, topic):
    body = b'{"records": [{"value": {"n": 1.10,\t"big": 123456789012345678901234567890}}, {"key": "k", "value": null}]}'
    answer = local.json("POST", f"/topics/{topic}", body, JSON)
    offsets = [{"partition": 0, "offset": n, "error_code": None, "error": None} for n in (0, 1)]
    assert answer == {"offsets": offsets, "key_schema_id": None, "value_schema_id": None}
    first, second = read(topic)
    assert (first.key(), first.value()) == (None, b'{"n": 1.10,\t"big": 123456789012345678901234567890}')
    assert (second.key(), second.value()) == (b'"k"', None)


@pytest.mark.parametrize("kind", [BINARY, V2, "application/json", f"{BINARY}; charset=utf-8"])
def test_binary_is_base64_and_the_default(local, read, make_topic, kind):
    topic = make_topic(2)
    record = {
        "key": b64(b"k\xff"),
        "value": b64(b"\x00\x01\xff"),
        "partition": 1,
        "headers": [{"name": "a", "value": b64(b"\xfe")}, {"name": "a"}],
        "timestamp": 1_700_000_000_000,
    }
    local.json("POST", f"/topics/{topic}", {"records": [record]}, kind)
    (found,) = read(topic, 1)
    assert (found.key(), found.value(), found.timestamp()[1]) == (b"k\xff", b"\x00\x01\xff", 1_700_000_000_000)
    assert found.headers() == [("a", b"\xfe"), ("a", None)]


def test_to_one_partition(local, read, make_topic):
    topic = make_topic(2)
    local.json("POST", f"/topics/{topic}/partitions/1/", {"records": [{"value": n} for n in range(3)]}, JSON)
    assert [message.value() for message in read(topic, 1)] == [b"0", b"1", b"2"]


@pytest.mark.parametrize(
    ("path", "body", "kind", "status", "code"),
    [
        ("", None, JSON, 422, 422),
        ("", b"{", JSON, 400, 400),
        ("", b'{"records": [{"value": "\xff"}]}', JSON, 400, 400),
        ("", b'{"records": [{"value": ' + b"[" * 5_000 + b"]" * 5_000 + b"}]}", JSON, 400, 400),
        ("", {}, JSON, 422, 422),
        ("", [], JSON, 422, 422),
        ("", {"records": []}, JSON, 422, 422),
        ("", {"records": [1]}, JSON, 422, 422),
        ("", {"records": [{"value": 1, "wrong": 1}]}, JSON, 422, 422),
        ("", {"records": [{"value": 1, "partition": "0"}]}, JSON, 422, 422),
        ("", {"records": [{"value": 1}, {"value": 1, "partition": 1}]}, JSON, 404, 40402),
        ("", {"records": [{"value": 1, "partition": -1}]}, JSON, 422, 42206),
        ("", {"records": [{"value": 1, "partition": 10**30}]}, JSON, 422, 42206),
        ("", {"records": [{"value": 1, "timestamp": 0}]}, JSON, 422, 42206),
        ("", {"records": [{"value": 1}, {"value": None}]}, JSON, 422, 42206),
        ("", b'{"records": [{"value": 1e400}]}', JSON, 422, 42206),
        ("", {"records": [{"value": 1, "headers": [{"name": "tk-event-id"}]}]}, JSON, 422, 42206),
        ("", {"records": [{"value": 1, "headers": [{"name": ""}]}]}, JSON, 422, 42206),
        ("", {"records": [{"value": "x" * 1_048_577}]}, JSON, 413, 413),
        ("", {"records": [{"value": 1}] * 10_001}, JSON, 422, 422),
        ("", {"records": [{"value": "no base64!"}]}, BINARY, 422, 422),
        ("", {"records": [{"value": 1}]}, BINARY, 422, 422),
        ("", {"records": [{"value": 1}]}, "application/vnd.kafka.avro.v2+json", 415, 415),
        ("", {"records": [{"value": 1}]}, "text/plain", 415, 415),
        ("", {"records": [{"value": 1}]}, f"{JSON}; charset=latin-1", 415, 415),
        ("/partitions/1", {"records": [{"value": 1}]}, JSON, 404, 40402),
    ],
)
def test_bad_input_gets_a_code_and_sends_nothing(local, read, topic, path, body, kind, status, code):
    assert local.refused("POST", f"/topics/{topic}{path}", body, kind) == (status, code)
    assert read(topic) == []


def test_a_body_over_the_limit(local, topic, settings):
    settings.TKREST = {"MAX_BODY_BYTES": 100}
    assert local.refused("POST", f"/topics/{topic}", {"records": [{"value": "x" * 100}]}, JSON) == (413, 413)


def test_a_compressed_body_is_not_taken(local, topic):
    assert local.refused("POST", f"/topics/{topic}", b"\x1f\x8b", JSON, **{"content-encoding": "gzip"}) == (415, 415)


def test_an_unknown_topic_is_not_made(local, kafka_admin):
    assert local.refused("POST", "/topics/not-made-by-rest", {"records": [{"value": 1}]}, JSON) == (404, 40401)
    assert "not-made-by-rest" not in kafka_admin.list_topics(timeout=10).topics


def test_who_may_produce(bearer, make_topic, settings, read):
    settings.TK = {"TOPICS": ["test-*"]}
    topic, body = make_topic(), {"records": [{"value": 1}]}
    bearer("tk.produce", topics=(topic,)).json("POST", f"/topics/{topic}", body, JSON)
    assert bearer("tk.produce", topics=("test-x",)).refused("POST", f"/topics/{topic}", body, JSON) == (403, 40301)
    assert bearer("tkcons.view_payload").refused("POST", f"/topics/{topic}", body, JSON) == (403, 40301)
    assert Rest().refused("POST", f"/topics/{topic}", body, JSON) == (401, 40101)
    assert bearer("tk.produce").refused("POST", "/topics/sample-topic", body, JSON) == (403, 40301)
    assert len(read(topic)) == 1
