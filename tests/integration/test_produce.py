"""/tkprod on the real broker: what is answered, and what is then in the topic."""

import asyncio
import json
import os
import time

import pytest
from confluent_kafka import KafkaException
from django.test import Client

import tk
from tests.waiting import eventually
from tk import access, errors, producer, topics
from tk.models import Token
from tklocal.kafka import Cluster

pytestmark = [pytest.mark.kafka, pytest.mark.django_db]

FORM = "application/x-www-form-urlencoded"


@pytest.fixture
def local(settings, broker, topic):
    """The newcomer's case: DEBUG on, this machine, the topic of this test as the one that needs no naming."""
    settings.DEBUG = True
    settings.TK = {"TOPIC": topic}
    return Client()


@pytest.mark.parametrize("path", ["/tkprod", "/tkprod/"])
@pytest.mark.parametrize("slash", [True, False])
@pytest.mark.parametrize("method", ["get", "post"])
def test_the_tutorials_request(local, settings, read, topic, path, slash, method):
    settings.APPEND_SLASH = slash
    answer = local.get(f"{path}?message=hello") if method == "get" else local.post(path, "message=hello", FORM)
    assert (answer.status_code, answer.content) == (200, b"Produced message.")
    assert read(topic)[-1].value() == b"hello"


def test_a_multipart_form_is_refused_with_a_code(local):
    answer = local.post("/tkprod", {"message": "hello"})
    assert (answer.status_code, answer["X-Error-Code"]) == (415, "unsupported_media_type")


def test_everything_about_a_message_arrives(local, read, make_topic):
    topic = make_topic(3)
    body = {
        "message": "grüße 🎉\n<b>",
        "topic": topic,
        "key": "k",
        "partition": 2,
        "headers": {"a": "b", "n": None},
        "timestamp": 1_700_000_000_000,
    }
    answer = local.post(
        "/tkprod", json.dumps(body), content_type="application/json", headers={"accept": "application/json"}
    )
    assert answer.json() == {"topic": topic, "partition": 2, "offset": 0, "timestamp": 1_700_000_000_000}
    (message,) = read(topic, 2)
    assert message.value().decode() == "grüße 🎉\n<b>"
    assert message.key() == b"k"
    assert message.headers() == [("a", b"b"), ("n", None)]
    assert message.timestamp() == (1, 1_700_000_000_000)


@pytest.mark.parametrize("value", [b"\x00\xff", b"x" * 1_048_576])
def test_raw_bytes_arrive(local, read, topic, value):
    assert local.post("/tkprod", value, content_type="application/octet-stream").status_code == 200
    assert read(topic)[0].value() == value


def test_a_megabyte_in_a_form_arrives(local, read, topic):
    assert local.post("/tkprod", "message=" + "%41" * 1_048_576, content_type=FORM).status_code == 200
    assert read(topic)[0].value() == b"A" * 1_048_576


def test_a_tombstone_arrives(local, read, topic):
    answer = local.post("/tkprod", {"message": None, "key": "k"}, content_type="application/json")
    assert answer.status_code == 200
    assert (read(topic)[0].key(), read(topic)[0].value()) == (b"k", None)


def test_the_parts_of_a_query_go_with_a_raw_body(local, read, topic):
    answer = local.post("/tkprod?key=k&headers=%7B%22a%22%3A%22b%22%7D", "hello", content_type="text/plain")
    assert answer.status_code == 200
    assert (read(topic)[0].key(), read(topic)[0].headers()) == (b"k", [("a", b"b")])


@pytest.mark.parametrize(
    ("query", "status", "code"),
    [
        ("", 400, "missing_message"),
        ("message=", 400, "missing_message"),
        ("message=%ff", 400, "bad_encoding"),
        ("message=a&topic=no-such-topic", 404, "unknown_topic"),
        ("message=a&topic=a/b", 400, "invalid_topic"),
        ("message=a&partition=7", 400, "invalid_partition"),
        ("message=a&key=" + "k" * 33_000, 400, "invalid_key"),
    ],
)
def test_bad_input_gets_a_code_and_sends_nothing(local, read, topic, query, status, code):
    answer = local.get(f"/tkprod?{query}", headers={"accept": "application/json"})
    assert (answer.status_code, answer.json()["code"], answer["X-Error-Code"]) == (status, code, code)
    assert read(topic) == []


def test_an_unknown_topic_is_not_made(local, kafka_admin):
    assert local.get("/tkprod?message=a&topic=not-made-by-asking").status_code == 404
    assert "not-made-by-asking" not in kafka_admin.list_topics(timeout=10).topics


def test_a_body_over_the_limit_is_refused_before_it_is_read(local):
    answer = local.post("/tkprod", "x", content_type="text/plain", headers={"content-length": "99999999"})
    assert (answer.status_code, answer["X-Error-Code"]) == (413, "too_large")


def test_without_debug_a_get_changes_nothing(broker, topic, read, settings):
    settings.TK = {"TOPIC": topic}
    answer = Client().get("/tkprod?message=hello")
    assert (answer.status_code, answer["Allow"]) == (405, "POST")
    assert read(topic) == []


def test_without_debug_nobody_produces_unknown(broker, topic, settings):
    settings.TK = {"TOPIC": topic}
    answer = Client().post("/tkprod", "a", content_type="text/plain")
    assert (answer.status_code, answer["WWW-Authenticate"]) == (401, "Bearer")


def test_a_token_produces(broker, topic, settings, read):
    settings.TK = {"TOPIC": topic}
    text, digest = access.new_token()
    Token.objects.create(name="t", digest=digest, scopes=["tk.produce"])
    answer = Client().post("/tkprod", "a", content_type="text/plain", headers={"authorization": f"Bearer {text}"})
    assert answer.status_code == 200
    assert len(read(topic)) == 1


@pytest.mark.parametrize("method", ["get", "post"])
def test_another_sites_browser_request_is_refused(local, read, topic, method):
    for headers in ({"sec-fetch-site": "cross-site"}, {"origin": "https://evil.example"}):
        answer = getattr(local, method)("/tkprod?message=a", headers=headers)
        assert (answer.status_code, answer["X-Error-Code"]) == (403, "cross_site")
    assert read(topic) == []


def test_a_session_needs_the_csrf_token(broker, topic, settings, admin_user):
    settings.TK = {"TOPIC": topic}
    client = Client(enforce_csrf_checks=True)
    client.force_login(admin_user)
    assert client.post("/tkprod", "a", content_type="text/plain")["X-Error-Code"] == "cross_site"
    client.cookies["csrftoken"] = "a" * 32
    answer = client.post("/tkprod", "a", content_type="text/plain", headers={"x-csrftoken": "a" * 32})
    assert answer.status_code == 200


def test_from_django_code(broker, topic, read):
    receipt = tk.produce(topic, {"id": 1}, key="1", headers={"a": b"b"})
    assert (receipt.topic, receipt.partition, receipt.offset) == (topic, 0, 0)
    assert read(topic)[0].value() == b'{"id":1}'
    with pytest.raises(errors.UnknownTopic):
        tk.produce("no-such-topic", "x")
    with pytest.raises(errors.InvalidRecord):
        tk.produce(topic, object())


async def _aproduce(topic: str):
    return await tk.aproduce(topic, "hello")


def test_from_asynchronous_code(broker, topic, read):
    assert asyncio.run(_aproduce(topic)).offset == 0
    assert read(topic)[0].value() == b"hello"


def test_one_producer_serves_every_request(local, topic):
    local.get("/tkprod?message=a")
    first = producer.current()
    local.get("/tkprod?message=b")
    assert producer.current() is first


def test_a_forked_child_makes_its_own_producer(broker, topic, read):
    tk.produce(topic, "parent")
    child = os.fork()
    if not child:
        code = 1
        try:
            tk.produce(topic, "child")
            code = 0
        finally:
            os._exit(code)
    assert os.waitpid(child, 0)[1] == 0
    assert [message.value() for message in read(topic)] == [b"parent", b"child"]


def test_a_full_queue_answers_at_once(settings, tmp_path):
    """The broker is paused: it takes connections and acknowledges nothing."""
    settings.TK = {"QUEUE_MESSAGES": 5, "DELIVERY_TIMEOUT": 2.0, "REQUEST_TIMEOUT": 4.0, "METADATA_SECONDS": 60.0}
    with Cluster(tmp_path, port=0) as cluster:
        settings.KAFKA_BROKER_URL = cluster.bootstrap
        tk.produce("sample-topic", "first")
        eventually(lambda: len(producer.current()) == 0)  # its acknowledgement has left the queue, too
        cluster.pause()
        outcomes = []
        began = time.monotonic()
        record = tk.Record("sample-topic", b"x")
        for _ in range(5):
            producer.submit(record, outcomes.append)
        with pytest.raises(errors.QueueFull):
            producer.submit(record, outcomes.append)
        assert time.monotonic() - began < 1
        eventually(lambda: len(outcomes) == 5, 10)
        assert {type(outcome) for outcome in outcomes} == {errors.OutcomeUnknown}
        cluster.resume()


def test_a_broker_that_is_down_and_comes_back(settings, tmp_path):
    settings.DEBUG = True
    settings.TK = {"DELIVERY_TIMEOUT": 3.0, "REQUEST_TIMEOUT": 5.0}
    client = Client()
    with Cluster(tmp_path, port=0) as cluster:
        settings.KAFKA_BROKER_URL = cluster.bootstrap
        assert client.get("/tkprod?message=a").status_code == 200
        cluster.kill()
        answer = eventually(lambda: _unless_unknown(client), 20)
        assert (answer.status_code, answer["X-Error-Code"]) == (503, "not_sent")
        assert int(answer["Retry-After"]) > 0
        for _ in range(3):
            began = time.monotonic()
            assert client.get("/tkprod?message=b").status_code == 503
            assert time.monotonic() - began < 4
        cluster.restart()
        cluster.wait()
        eventually(lambda: client.get("/tkprod?message=c").status_code == 200, 30)


def _unless_unknown(client: Client):
    """The first requests may still be under way when the broker dies: their outcome is unknown, and said to be."""
    answer = client.get("/tkprod?message=x")
    assert answer.status_code in {503, 504}
    return answer if answer.status_code == 503 else None


def test_down_from_the_first_request_on(settings):
    settings.KAFKA_BROKER_URL = "localhost:1"
    settings.DEBUG = True
    began = time.monotonic()
    answer = Client().get("/tkprod?message=a")
    assert (answer.status_code, answer["X-Error-Code"]) == (503, "not_sent")
    assert time.monotonic() - began < 4


def test_a_topics_id_changes_when_it_is_made_again(broker, make_topic, kafka_admin):
    name = make_topic()
    first = topics.get(name)
    assert len(first.id) == 22
    kafka_admin.delete_topics([name])[name].result(timeout=10)
    eventually(lambda: _gone(name), 10)
    eventually(lambda: _made(make_topic, name), 10)
    assert topics.get(name, 0).id != first.id


def _gone(name: str) -> bool:
    try:
        topics.get(name, 0)
    except errors.UnknownTopic:
        return True
    return False


def _made(make_topic, name: str) -> bool:
    try:
        return bool(make_topic(name=name))
    except KafkaException:  # the old one is still being deleted
        return False
