"""Topics, partitions, brokers over the REST Proxy."""

import pytest

from tests.integration.tk_rest.conftest import V2, Rest

pytestmark = [pytest.mark.kafka, pytest.mark.django_db]


def test_a_topic_and_its_parts(local, make_topic):
    topic = make_topic(2, retention_ms="3600000")
    assert topic in local.json("GET", "/topics")
    replicas = [{"broker": 0, "leader": True, "in_sync": True}]
    partitions = [{"partition": n, "leader": 0, "replicas": replicas} for n in (0, 1)]
    found = local.json("GET", f"/topics/{topic}/")
    assert (found["name"], found["configs"]["retention.ms"], found["partitions"]) == (topic, "3600000", partitions)
    assert local.json("GET", f"/topics/{topic}/partitions") == partitions
    assert local.json("GET", f"/topics/{topic}/partitions/1") == partitions[1]
    local.send(topic, "a", "b", "c")
    offsets = [local.json("GET", f"/topics/{topic}/partitions/{n}/offsets") for n in (0, 1)]
    assert {each["beginning_offset"] for each in offsets} == {0}
    assert sum(each["end_offset"] for each in offsets) == 3
    assert local.json("GET", "/brokers") == {"brokers": [0]}


@pytest.mark.parametrize(
    ("path", "status", "code"),
    [
        ("/topics/no-such-topic", 404, 40401),
        ("/topics/no-such-topic/partitions", 404, 40401),
        ("/topics/no-such-topic/partitions/0/offsets", 404, 40401),
        ("/topics/sample-topic/partitions/1", 404, 40402),
        ("/topics/sample-topic/partitions/9999999999/offsets", 404, 40402),
        ("/topics/a%20b", 422, 42206),
        ("/topics/__consumer_offsets", 403, 40301),
        ("/topics/sample-topic/nothing/here", 404, 404),
        ("/topics/sample-topic/partitions/x", 404, 404),
        ("/consumers", 404, 404),
    ],
)
def test_what_is_not_there(local, path, status, code):
    assert local.refused("GET", path) == (status, code)


def test_methods_and_types(local):
    answer = local("DELETE", "/topics/sample-topic")
    assert (answer.status_code, answer.json()["error_code"], answer["Allow"]) == (405, 405, "GET, POST")
    assert local.refused("GET", "/topics", accept="text/html") == (406, 406)
    assert local.refused("GET", "/topics", accept="application/vnd.kafka.v3+json") == (406, 406)
    for accept in ("*/*", V2, f"text/html, {V2};q=0.5", "application/vnd.kafka+json"):
        assert local("GET", "/brokers", accept=accept)["Content-Type"] in {V2, "application/vnd.kafka+json"}
    assert local("GET", "/brokers", accept="application/json")["Content-Type"] == "application/json"


def test_a_token_sees_its_own_topics(bearer, make_topic, settings):
    settings.TK = {"TOPICS": ["test-*"]}
    mine, other = make_topic(), make_topic()
    rest = bearer("tk.produce", topics=(mine,))
    assert rest.json("GET", "/topics") == [mine]
    assert rest.json("GET", f"/topics/{mine}")["name"] == mine
    assert rest.refused("GET", f"/topics/{other}") == (403, 40301)
    assert bearer("tkcons.view_payload").json("GET", f"/topics/{other}")["name"] == other
    assert bearer().refused("GET", "/topics") == (403, 40301)
    assert bearer().refused("GET", "/brokers") == (403, 40301)


def test_nobody_unknown_sees_anything(broker):
    answer = Rest()("GET", "/topics")
    assert (answer.status_code, answer.json()["error_code"], answer["WWW-Authenticate"]) == (401, 40101, "Bearer")
    assert Rest(authorization="Bearer tk_wrong").refused("GET", "/brokers") == (401, 40101)


def test_another_sites_request_is_refused(local):
    assert local.refused("GET", "/topics", **{"sec-fetch-site": "cross-site"}) == (403, 40301)
