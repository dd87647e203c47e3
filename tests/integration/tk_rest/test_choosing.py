"""What an instance of the REST Proxy reads: a subscription, a pattern, or partitions by hand."""

import time

import confluent_kafka as kafka
import pytest
from confluent_kafka import TopicPartition

from tests.integration.tk_rest.conftest import Consumer
from tests.waiting import eventually

pytestmark = [pytest.mark.kafka, pytest.mark.django_db]


def test_partitions_by_hand_and_positions(local, consumer, make_topic, group):
    topic = make_topic(2)
    for number in (0, 1):
        records = [{"value": f"{number}-{n}"} for n in range(4)]
        local.json(
            "POST", f"/topics/{topic}/partitions/{number}", {"records": records}, "application/vnd.kafka.json.v2+json"
        )
    first = {"topic": topic, "partition": 1}
    made = consumer(group)
    made("POST", "/assignments", {"partitions": [first]})
    assert made("GET", "/assignments") == {"partitions": [first]}
    assert made.values(2, "?max_bytes=10") == ["1-0", "1-1"]
    made("POST", "/positions", {"offsets": [{**first, "offset": 3}]})
    assert made.values(1) == ["1-3"]
    made("POST", "/positions/beginning", {"partitions": [first]})
    assert made.values(4) == ["1-0", "1-1", "1-2", "1-3"]
    made("POST", "/positions/end", {"partitions": [first]})
    assert made.records("?timeout=300") == []
    other = {"topic": topic, "partition": 0}
    assert local.refused("POST", f"{made.path}/positions/end", {"partitions": [other]}) == (409, 40903)
    made("POST", "/assignments", {"partitions": [other]})
    assert made.values(4) == ["0-0", "0-1", "0-2", "0-3"]
    assert local.refused("POST", f"{made.path}/subscription", {"topics": [topic]}) == (409, 40903)
    made("DELETE", "/subscription")
    assert made("GET", "/assignments") == {"partitions": []}


def test_positions_of_a_member_of_the_group(local, consumer, topic, group):
    local.send(topic, *range(5))
    made = consumer(group)
    made.subscribe(topic)
    assert made.values(5) == list(range(5))
    made("POST", "/positions", {"offsets": [{"topic": topic, "partition": 0, "offset": 2}]})
    assert made.values(3) == [2, 3, 4]
    assert local.refused("POST", f"{made.path}/assignments", {"partitions": []}) == (409, 40903)
    made("DELETE", "/subscription")
    assert made("GET", "/subscription") == {"topics": []}
    local.send(topic, 5)
    assert made.records("?timeout=300") == []


@pytest.mark.parametrize(("reset", "expected"), [("earliest", [3, 4]), ("latest", [])])
def test_at_an_offset_that_kafka_does_not_have_it_begins_as_it_was_told(
    local, consumer, broker, kafka_admin, topic, group, reset, expected
):
    """The group's, which has expired, and one that was chosen and is past the end."""
    local.send(topic, *range(5))
    where = TopicPartition(topic, 0, 3)
    member = kafka.Consumer({"bootstrap.servers": broker, "group.id": group})
    member.commit(offsets=[TopicPartition(topic, 0, 1)], asynchronous=False)
    member.close()
    kafka_admin.delete_records([where])[where].result(10)
    made = consumer(group, **{"auto.offset.reset": reset})
    partition = {"topic": topic, "partition": 0}
    made("POST", "/assignments", {"partitions": [partition]})
    assert [each["value"] for each in made.records("?timeout=1000")] == expected
    local.send(topic, 5)
    assert made.values(1) == [5]
    made("POST", "/positions", {"offsets": [{**partition, "offset": 99}]})
    assert [each["value"] for each in made.records("?timeout=1000")] == ([*expected, 5] if expected else [])
    made("POST", "/positions", {"offsets": [{**partition, "offset": 4}]})
    assert made.values(2) == [4, 5]
    time.sleep(0.6)  # librdkafka would look the beginning up again half a second later
    local.send(topic, 6)
    assert made.values(1) == [6]


def test_a_subscription_and_partitions_by_hand_in_turn(local, consumer, topic, group):
    """Each begins where the group's committed offset is: giving one up leaves the other nothing of itself."""
    local.send(topic, *range(4))
    where = {"topic": topic, "partition": 0}
    made = consumer(group, **{"auto.commit.enable": "false"})

    def by_hand() -> None:
        made("POST", "/assignments", {"partitions": [where]})
        assert made("GET", "/assignments") == {"partitions": [where]}

    for start in (0, 2):
        for choose in (lambda: made.subscribe(topic), by_hand):
            choose()
            assert made.values(4 - start) == list(range(start, 4))
            made("POST", "/positions", {"offsets": [{**where, "offset": 3}]})
            assert made.values(1) == [3]
            made("DELETE", "/subscription")
            assert made("GET", "/subscription") == {"topics": []}
            assert made("GET", "/assignments") == {"partitions": []}
            assert made.records("?timeout=20") == []
        by_hand()
        made("POST", "/offsets", {"offsets": [{**where, "offset": 1}]})
        made("DELETE", "/subscription")


@pytest.mark.parametrize("auto", ["true", "false"])
def test_what_was_given_is_committed_when_the_choice_changes_with_auto_commit_alone(
    local, consumer, topic, group, auto
):
    local.send(topic, *range(4))
    where = {"partitions": [{"topic": topic, "partition": 0}]}
    made = consumer(group, **{"auto.commit.enable": auto})
    for n, path in enumerate(("/subscription", "/assignments") * 2):
        made("POST", path, {"topics": [topic]} if path == "/subscription" else where)
        expected = n if auto == "true" else 0
        assert made.values(1, "?max_bytes=1") == [expected]
        made("DELETE", "/subscription")
    offsets = [each["offset"] for each in made("GET", "/offsets", where)["offsets"]]
    assert offsets == ([4] if auto == "true" else [])


def test_a_choice_is_given_up_before_the_broker_answered_it(local, consumer, topic, group):
    """However quickly a client changes its mind, nothing of the choice before comes into the next."""
    local.send(topic, 1)
    where = {"topic": topic, "partition": 0}
    made = consumer(group, **{"auto.commit.enable": "false"})
    for pause in (0, 0.05, 0.1, 0.2, 0.3, 0.5):
        made.subscribe(topic)
        made.records("?timeout=1")
        time.sleep(pause)
        made.subscribe()  # no topic: as DELETE
        made("POST", "/assignments", {"partitions": [where]})
        made("POST", "/positions/beginning", {"partitions": [where]})
        assert made.values(1) == [1]
        made("POST", "/assignments", {"partitions": []})
        made("POST", "/assignments", {"partitions": [where]})
        made("DELETE", "/subscription")
        made("DELETE", "/subscription")
    made.subscribe(topic)
    assert made.values(1) == [1]


def test_a_pattern_names_readable_topics_alone(local, consumer, make_topic, group):
    mine = [make_topic(name=f"pat-{group}-{n}") for n in "ab"]
    make_topic(name=f"not-pat-{group}")
    made = consumer(group)
    made("POST", "/subscription", {"topic_pattern": f"pat-{group}-.*|__.*"})
    assert made("GET", "/subscription") == {"topics": mine}
    local.send(mine[0], "a")
    local.send(mine[1], "b")
    assert sorted(made.values(2)) == ["a", "b"]
    for pattern in ("(", "(?=a)", "a" * 1_001):
        assert local.refused("POST", f"{made.path}/subscription", {"topic_pattern": pattern}) == (422, 422)


def test_a_strangers_pattern_costs_no_time(local, consumer, make_topic, group):
    make_topic(name=f"{group}-" + "a" * 200 + "b")
    made = consumer(group)
    began = time.monotonic()
    made("POST", "/subscription", {"topic_pattern": ".*" + "(a+)+" * 20 + "$"})
    assert time.monotonic() - began < 5


def test_new_topics_of_a_pattern_are_found(local, consumer, make_topic, group, monkeypatch):
    monkeypatch.setattr("tkrest.consumers.LOOK_SECONDS", 0.1)
    made = consumer(group)
    made("POST", "/subscription", {"topic_pattern": f"new-{group}-.*"})
    assert made.records("?timeout=100") == []
    topic = make_topic(name=f"new-{group}-1")
    local.send(topic, 1)
    assert made.values(1) == [1]


def test_an_idle_member_hands_partitions_over(local, consumer, make_topic, group):
    """The first member sends no request while the second joins, and has records that it was not asked for."""
    topic = make_topic(2)
    local.send(topic, *range(40))
    first = consumer(group, **{"auto.commit.enable": "false"})
    first.subscribe(topic)
    seen = set(first.values(1, "?max_bytes=1"))
    eventually(lambda: len(first("GET", "/assignments")["partitions"]) == 2)
    second = consumer(group, **{"auto.commit.enable": "false"})
    second.subscribe(topic)
    eventually(lambda: len(second("GET", "/assignments")["partitions"]) == 1, 30)
    assert len(first("GET", "/assignments")["partitions"]) == 1
    eventually(lambda: seen.update(_all(first), _all(second)) or len(seen) == 40, 30)
    second("DELETE", "")
    eventually(lambda: len(first("GET", "/assignments")["partitions"]) == 2)
    local.send(topic, *range(40, 80))
    eventually(lambda: seen.update(_all(first)) or len(seen) == 80, 30)


def _all(member: Consumer) -> list[int]:
    return [each["value"] for each in member.records("?timeout=100")]
