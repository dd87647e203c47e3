"""Consuming over the REST Proxy: every record once to a client that commits, none skipped, nobody else's."""

import threading
import time

import pytest
from confluent_kafka import Consumer as Kafkas
from confluent_kafka import TopicPartition
from django.test import override_settings

from tests.integration.tk_rest.conftest import Consumer, Rest
from tests.waiting import eventually
from tkrest import instances
from tkrest.consume import Instance

pytestmark = [pytest.mark.kafka, pytest.mark.django_db]


def test_consume_commit_resume(local, consumer, topic, group):
    local.send(topic, *range(10))
    first = consumer(group, **{"auto.commit.enable": "false", "name": "one"})
    assert first.base_uri == f"http://testserver/rest/consumers/{group}/instances/one"
    first.subscribe(topic)
    assert first("GET", "/subscription") == {"topics": [topic]}
    assert first.values(10) == list(range(10))
    assert first("GET", "/assignments") == {"partitions": [{"topic": topic, "partition": 0}]}
    where = {"partitions": [{"topic": topic, "partition": 0}]}
    assert first("GET", "/offsets", where) == {"offsets": []}
    # As the REST Proxy has it: the offset of the last record that was handled, not of the next.
    assert first("POST", "/offsets", {"offsets": [{"topic": topic, "partition": 0, "offset": 3}]}) == []
    committed = {"topic": topic, "partition": 0, "offset": 4, "metadata": ""}
    assert first("GET", "/offsets", where) == {"offsets": [committed]}
    assert first("DELETE", "") is None

    second = consumer(group, **{"auto.commit.enable": "false"})
    second.subscribe(topic)
    assert second.values(6) == list(range(4, 10))
    second("POST", "/offsets")  # everything that it was given
    assert second("GET", "/offsets", where)["offsets"][0]["offset"] == 10
    second("DELETE", "")
    local.send(topic, 10)
    third = consumer(group)
    third.subscribe(topic)
    assert third.values(1) == [10]


def test_a_record_whole(local, consumer, topic, group):
    record = {
        "key": "aw==",
        "value": "AP8=",
        "headers": [{"name": "h", "value": "/w=="}],
        "timestamp": 1_700_000_000_000,
    }
    local.json("POST", f"/topics/{topic}", {"records": [record]})
    binary = consumer(group, format="binary")
    binary.subscribe(topic)
    (found,) = eventually(binary.records)
    assert found == {**record, "topic": topic, "partition": 0, "offset": 0}


@pytest.mark.parametrize("max_bytes", [1, 25, 1_000])
def test_nothing_is_skipped_where_an_answer_is_cut(local, consumer, make_topic, group, max_bytes):
    topic = make_topic(2)
    values = [f"{n:04}" + "x" * (n % 30) for n in range(60)]
    local.send(topic, *values)
    made = consumer(group)
    made.subscribe(topic)
    found: list[str] = []
    while len(found) < 60:
        records = made.records(f"?max_bytes={max_bytes}&timeout=3000")
        assert len(records) == 1 or sum(len(each["value"]) + 2 for each in records) <= max_bytes
        found += [each["value"] for each in records]
    assert sorted(found) == values
    assert made.records("?timeout=300") == []


def test_auto_commit_waits_until_the_client_comes_back(local, consumer, topic, group):
    """An answer that got lost is given again to the next instance of the group."""
    local.send(topic, 1, 2)
    lost = consumer(group)
    lost.subscribe(topic)
    assert lost.values(1, "?max_bytes=1") == [1]
    instances.close()  # the process ends; nobody knows whether the answer arrived
    second = consumer(group)
    second.subscribe(topic)
    assert second.values(1, "?max_bytes=1") == [1]
    assert second.values(1, "?max_bytes=1") == [2]  # it came back: the first is committed
    instances.close()
    third = consumer(group)
    third.subscribe(topic)
    assert third.values(1) == [2]
    third("DELETE", "")  # in order: what it was given is committed
    fourth = consumer(group)
    fourth.subscribe(topic)
    local.send(topic, 3)
    assert fourth.values(1) == [3]


def test_without_auto_commit_nothing_is_committed(local, consumer, topic, group):
    local.send(topic, 1)
    for _ in range(2):
        made = consumer(group, **{"auto.commit.enable": "false"})
        made.subscribe(topic)
        assert made.values(1) == [1]
        assert made.records("?timeout=100") == []
        made("DELETE", "")


def test_a_record_that_is_no_json_is_neither_skipped_nor_in_the_way(local, consumer, topic, group, send):
    local.send(topic, 1)
    send(topic, "{")
    local.send(topic, 2)
    made = consumer(group)
    made.subscribe(topic)
    assert made.values(1) == [1]
    for _ in range(2):
        answer = local("GET", f"{made.path}/records", accept=made.kind)
        assert (answer.status_code, answer.json()["error_code"]) == (422, 42203)
        assert f"{topic}[0] offset 1" in answer.json()["message"]
    made("POST", "/positions", {"offsets": [{"topic": topic, "partition": 0, "offset": 2}]})
    assert made.values(1) == [2]


def test_without_an_offset_to_begin_at(local, consumer, topic, group):
    local.send(topic, 1)
    made = consumer(group, **{"auto.offset.reset": "none"})
    made.subscribe(topic)
    eventually(lambda: local("GET", f"{made.path}/records", accept=made.kind).status_code == 409)
    made("POST", "/positions/beginning", {"partitions": [{"topic": topic, "partition": 0}]})
    assert made.values(1) == [1]


def test_latest_is_the_default(local, topic, group):
    local.send(topic, 1)
    made = local.json("POST", f"/consumers/{group}", {"format": "json"})
    path = f"/consumers/{group}/instances/{made['instance_id']}"
    local.json("POST", f"{path}/assignments", {"partitions": [{"topic": topic, "partition": 0}]})
    assert local.json("GET", f"{path}/records?timeout=500", accept="application/json") == []
    local.send(topic, 2)
    found = eventually(lambda: local.json("GET", f"{path}/records", accept="*/*"))
    assert [each["value"] for each in found] == [2]


def test_fetch_min_bytes_and_the_time(local, consumer, topic, group):
    local.send(topic, "x" * 100)
    made = consumer(group, **{"fetch.min.bytes": 150, "consumer.request.timeout.ms": "1500"})
    made("POST", "/assignments", {"partitions": [{"topic": topic, "partition": 0}]})
    began = time.monotonic()
    assert len(made.records("?timeout=20000")) == 1
    assert 1.4 < time.monotonic() - began < 10  # the instance's own time holds
    local.send(topic, "x" * 200)
    assert len(eventually(made.records)) == 1


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b"{", 400, 400),
        ([], 422, 422),
        ({"wrong": 1}, 422, 422),
        ({"format": "avro"}, 422, 42204),
        ({"format": "x"}, 422, 42204),
        ({"auto.offset.reset": "newest"}, 422, 42204),
        ({"auto.commit.enable": "perhaps"}, 422, 422),
        ({"fetch.min.bytes": -2}, 422, 42204),
        ({"fetch.min.bytes": "many"}, 422, 422),
        ({"consumer.request.timeout.ms": 0}, 422, 42204),
        ({"name": "a/b"}, 422, 42204),
        ({"name": "x" * 256}, 422, 42204),
        ({"name": "a\n"}, 422, 42204),
    ],
)
def test_a_consumer_that_cannot_be(local, group, body, status, code):
    assert local.refused("POST", f"/consumers/{group}", body) == (status, code)


@pytest.mark.parametrize(
    ("method", "part", "body", "status", "code"),
    [
        ("POST", "/subscription", None, 422, 422),
        ("POST", "/subscription", {}, 409, 40903),
        ("POST", "/subscription", {"topics": ["a"], "topic_pattern": "a"}, 409, 40903),
        ("POST", "/subscription", {"topics": "a"}, 422, 422),
        ("POST", "/subscription", {"topics": ["a b"]}, 422, 42206),
        ("POST", "/subscription", {"topics": ["no-such-topic"]}, 404, 40401),
        ("POST", "/subscription", {"topics": ["__consumer_offsets"]}, 403, 40301),
        ("POST", "/assignments", {"partitions": [{"topic": "sample-topic"}]}, 422, 422),
        ("POST", "/assignments", {"partitions": [{"topic": "sample-topic", "partition": 1}]}, 404, 40402),
        ("POST", "/assignments", {"partitions": [{"topic": "sample-topic", "partition": -1}]}, 404, 40402),
        ("POST", "/assignments", {"partitions": [{"topic": "no-such-topic", "partition": 0}]}, 404, 40401),
        ("POST", "/offsets", {"offsets": [{"topic": "sample-topic", "partition": 0, "offset": -1}]}, 422, 422),
        ("POST", "/offsets", {"offsets": [{"topic": "sample-topic", "partition": 0, "offset": 2**63 - 1}]}, 422, 422),
        ("POST", "/offsets", {"offsets": [{"topic": "sample-topic", "partition": 5, "offset": 1}]}, 404, 40402),
        ("GET", "/offsets", None, 404, 40402),
        ("GET", "/offsets", {"partitions": 1}, 422, 422),
        ("POST", "/positions", {"offsets": [{"topic": "sample-topic", "partition": 0, "offset": 1}]}, 409, 40903),
        ("POST", "/positions", {"offsets": [{"topic": "sample-topic", "partition": 0, "offset": "1"}]}, 422, 422),
        ("POST", "/positions/middle", {"partitions": []}, 404, 404),
        ("GET", "/records?timeout=x", None, 400, 400),
        ("GET", "/records?max_bytes=0", None, 400, 400),
        ("GET", "/records?max_bytes=" + "9" * 30, None, 400, 400),
        ("PUT", "/records", None, 405, 405),
    ],
)
def test_bad_input_of_an_instance(local, consumer, group, method, part, body, status, code):
    assert local.refused(method, f"{consumer(group, format='binary').path}{part}", body) == (status, code)


def test_formats_must_agree(local, consumer, group):
    path = consumer(group).path
    for accept in (
        "application/vnd.kafka.binary.v2+json",
        "application/vnd.kafka.v2+json",
        "application/vnd.kafka.avro.v2+json",
    ):
        assert local.refused("GET", f"{path}/records", accept=accept) == (406, 40601)
    assert local.refused("GET", f"{path}/records", accept="text/html") == (406, 406)


def test_an_instance_is_its_owners_alone(bearer, topic, group, settings):
    settings.TK = {"TOPICS": ["test-*"]}
    one, other = bearer("tkcons.view_payload"), bearer("tkcons.view_payload", "tk.produce")
    made = Consumer(one, group, name="mine")
    made.subscribe(topic)
    answer = other("GET", f"{made.path}/records")
    assert (answer.status_code, answer.json()["error_code"]) == (404, 40403)
    assert group not in answer.json()["message"]
    assert answer.json() == other("GET", f"/consumers/{group}/instances/nobodys/records").json()
    for method, part in [("DELETE", ""), ("GET", "/subscription"), ("POST", "/offsets"), ("DELETE", "/subscription")]:
        assert other.refused(method, f"{made.path}{part}") == (404, 40403)
    assert made("GET", "/subscription") == {"topics": [topic]}
    assert one.refused("POST", f"/consumers/{group}", {"name": "mine"}) == (409, 40902)


def test_who_may_consume(bearer, make_topic, group, settings):
    settings.TK = {"TOPICS": ["test-*"]}
    mine, other = make_topic(), make_topic()
    assert bearer("tk.produce").refused("POST", f"/consumers/{group}") == (403, 40301)
    assert Rest().refused("POST", f"/consumers/{group}") == (401, 40101)
    made = Consumer(bearer("tkcons.view_payload", topics=(mine,)), group)
    for part, body in {
        "/subscription": {"topics": [other]},
        "/assignments": {"partitions": [{"topic": other, "partition": 0}]},
        "/offsets": {"offsets": [{"topic": other, "partition": 0, "offset": 0}]},
    }.items():
        assert made.rest.refused("POST", f"{made.path}{part}", body) == (403, 40301)
    made("POST", "/subscription", {"topic_pattern": ".*"})
    assert made("GET", "/subscription") == {"topics": [mine]}
    settings.TK = {"TOPICS": ["orders"]}  # it may no longer be read
    assert made.rest.refused("GET", f"{made.path}/records", accept=made.kind) == (403, 40301)


def test_groups_that_are_not_theirs(local, group, settings):
    settings.TKCONS = {"SINKS": {"database": {"class": "tkcons.sinks.DatabaseSink", "topics": ["sample-topic"]}}}
    assert local.refused("POST", "/consumers/tkcons.database") == (403, 40301)
    settings.TKREST = {"GROUPS": ["web-*"]}
    assert local.refused("POST", f"/consumers/{group}") == (403, 40301)


def test_instances_are_bounded(bearer, group, settings):
    settings.TKREST = {"MAX_INSTANCES": 2, "MAX_INSTANCES_OF_CALLER": 1}
    path = f"/consumers/{group}"
    first = bearer("tkcons.view_payload")
    first.json("POST", path)
    answer = first("POST", path)
    assert (answer.status_code, answer.json()["error_code"]) == (429, 429)
    assert int(answer["Retry-After"]) > 0
    bearer("tkcons.view_payload").json("POST", path)
    assert bearer("tkcons.view_payload").refused("POST", path) == (429, 429)


def test_an_idle_instance_expires(local, consumer, topic, group, settings):
    made = consumer(group)
    made.subscribe(topic)
    settings.TKREST = {"INSTANCE_SECONDS": 0.2}
    eventually(lambda: local("GET", f"{made.path}/subscription").status_code == 404 or time.sleep(1))
    assert local.refused("GET", f"{made.path}/records") == (404, 40403)


def test_base_uri_may_be_set(local, group, settings):
    settings.TKREST = {"BASE_URI": "https://host-1.example.org/kafka/"}
    assert Consumer(local, group, name="a").base_uri == (
        f"https://host-1.example.org/kafka/consumers/{group}/instances/a"
    )


def test_deleting_ends_a_read_that_waits(local, consumer, topic, group):
    made = consumer(group)
    made.subscribe(topic)
    answers: list[int] = []
    reading = threading.Thread(
        target=lambda: answers.append(Rest()("GET", f"{made.path}/records?timeout=25000", accept=made.kind).status_code)
    )
    reading.start()
    began = time.monotonic()
    time.sleep(0.5)
    made("DELETE", "")
    reading.join(20)
    assert answers == [200] or answers == [404]
    assert time.monotonic() - began < 15


def test_records_that_wait_are_bounded(local, consumer, topic, group):
    """However much the topic holds, an instance holds about three times FETCH_KIB of it."""
    with override_settings(TKREST={"FETCH_KIB": 1_024}):
        local.send(topic, *["x" * 100_000] * 60)
        made = consumer(group)
        made.subscribe(topic)
        assert len(made.values(1, "?max_bytes=1")) == 1
        instance = next(iter(instances.current._all.values()))
        for _ in range(100):  # as the keeper does while the client is idle
            instance.tend()
            time.sleep(0.02)
        assert sum(len(message.value()) for message in instance._fetched._waiting) < 4_000_000
        assert len(made.values(59)) == 59


def test_when_it_is_deleted_its_commit_stands(local, consumer, topic, group, broker, monkeypatch):
    local.send(topic, 1, 2)
    made = consumer(group)
    made("POST", "/assignments", {"partitions": [{"topic": topic, "partition": 0}]})
    assert made.values(2) == [1, 2]
    confirm = Instance._confirm

    def late(instance: Instance) -> None:
        time.sleep(1)
        confirm(instance)

    monkeypatch.setattr(Instance, "_confirm", late)
    made("DELETE", "")
    plain = Kafkas({"bootstrap.servers": broker, "group.id": group})
    found = plain.committed([TopicPartition(topic, 0)], 10)
    plain.close()
    assert [each.offset for each in found] == [2]


def test_a_group_that_is_held_up_keeps_nobody_waiting(local, consumer, group, settings, monkeypatch):
    """Until it lets its member go that one counts: else making and deleting them would have more and more consumers."""
    settings.TKREST = {"MAX_INSTANCES_OF_CALLER": 1}
    made, goes_on = consumer(group), threading.Event()
    close = Instance.close

    def late(instance: Instance, *, confirmed: bool) -> None:
        instance.settled.set()
        goes_on.wait(20)
        close(instance, confirmed=confirmed)

    monkeypatch.setattr(Instance, "close", late)
    began = time.monotonic()
    made("DELETE", "")
    assert time.monotonic() - began < 3
    assert local.refused("POST", f"/consumers/{group}") == (429, 429)
    goes_on.set()
    eventually(lambda: local("POST", f"/consumers/{group}").status_code == 200)
