"""What a consumer instance of the REST Proxy does when its choice is given up, with what brokers only do now and then."""

import threading
import time

import pytest
from confluent_kafka import KafkaError, KafkaException, TopicPartition

from tests.unit.test_fuzz_rest import Consumer
from tkrest import client, consume
from tkrest.client import Options
from tkrest.consume import Instance
from tkrest.errors import KafkaFailed
from tkrest.media import JSON


@pytest.fixture
def instance(monkeypatch) -> Instance:
    monkeypatch.setattr(client, "Consumer", Consumer)
    return Instance("g", "one", "somebody", Options(JSON, "earliest"))


def test_giving_up_a_choice_does_not_wait_for_a_group_that_is_held_up(instance, monkeypatch):
    goes_on = threading.Event()
    monkeypatch.setattr(Consumer, "close", lambda self: goes_on.wait(20))
    monkeypatch.setattr(consume, "ANSWER_SECONDS", 0.1)
    instance.subscribe(["orders"])
    began = time.monotonic()
    instance.unsubscribe()
    assert time.monotonic() - began < 5
    goes_on.set()


def test_what_comes_late_for_a_choice_that_was_given_up_changes_nothing(instance):
    instance.subscribe(["orders"])
    before = instance._consumer
    instance.unsubscribe()
    instance.assign([("payments", 0)])
    instance._on_assign(before, [TopicPartition("orders", 1)])
    assert instance.assignment() == [("payments", 0)]
    instance._on_revoke(before, [TopicPartition("payments", 0)])
    assert instance.assignment() == [("payments", 0)]


@pytest.mark.parametrize("choose", ["subscribe", "assign"])
def test_where_the_group_is_is_asked_until_its_coordinator_answers(instance, monkeypatch, choose):
    answer = Consumer.committed
    refusals = iter([KafkaError.NOT_COORDINATOR, KafkaError.COORDINATOR_LOAD_IN_PROGRESS])

    def committed(self, asked, timeout):
        for code in refusals:
            raise KafkaException(KafkaError(code))
        return answer(self, asked, timeout)

    monkeypatch.setattr(Consumer, "committed", committed)
    getattr(instance, choose)(["orders"] if choose == "subscribe" else [("orders", 0)])
    assert instance.assignment() == [("orders", 0)]
    assert [each["offset"] for each in instance.read(5, 1_000_000)] == [3, 4]
    assert list(refusals) == []


@pytest.mark.parametrize(
    "code",
    [
        *(KafkaError.LEADER_NOT_AVAILABLE, KafkaError.NOT_LEADER_FOR_PARTITION, KafkaError.OFFSET_NOT_AVAILABLE),
        *(KafkaError.UNKNOWN_LEADER_EPOCH, KafkaError.FENCED_LEADER_EPOCH),
    ],
)
def test_where_a_new_group_begins_is_asked_until_the_leader_answers(instance, monkeypatch, code):
    answer = Consumer.offsets_for_times
    refusals = iter([code, code])

    def offsets_for_times(self, asked, timeout):
        for code in refusals:
            raise KafkaException(KafkaError(code))
        return answer(self, asked, timeout)

    monkeypatch.setattr(Consumer, "committed", lambda self, asked, timeout: asked)
    monkeypatch.setattr(Consumer, "offsets_for_times", offsets_for_times)
    instance.assign([("orders", 0)])
    assert instance._problem is None
    assert [each["offset"] for each in instance.read(5, 1_000_000)] == [0, 1]


def test_a_group_whose_offsets_are_not_the_callers_to_see_is_told_so(instance, monkeypatch):
    refused = KafkaException(KafkaError(KafkaError.GROUP_AUTHORIZATION_FAILED))
    monkeypatch.setattr(Consumer, "committed", lambda *args, **kwargs: (_ for _ in ()).throw(refused))
    instance.assign([("orders", 0)])
    with pytest.raises(KafkaFailed):
        instance.read(0.1, 1_000_000)


def test_a_partition_that_begins_anew_begins_at_the_groups_offset_when_it_comes_again(instance):
    instance.assign([("orders", 0)])
    instance._lose(("orders", 0), "out of range")
    assert [each["offset"] for each in instance.read(5, 1_000_000)] == [0, 1]
    instance.assign([("orders", 0)])
    assert [each["offset"] for each in instance.read(5, 1_000_000)] == [3, 4]


def test_partitions_that_have_not_begun_can_be_taken_away(instance, monkeypatch):
    refused = KafkaException(KafkaError(KafkaError.NOT_COORDINATOR))
    monkeypatch.setattr(Consumer, "committed", lambda *args, **kwargs: (_ for _ in ()).throw(refused))
    instance.subscribe(["orders"])
    instance._on_revoke(instance._consumer, [TopicPartition("orders", 0)])
    assert instance.assignment() == []


@pytest.mark.parametrize(("reset", "expected"), [("earliest", [0, 1]), ("latest", [])])
@pytest.mark.parametrize("choose", ["subscribe", "assign"])
def test_librdkafka_is_never_asked_to_find_where_to_begin(monkeypatch, choose, reset, expected):
    """What it looks up by itself it looks up again later, and puts the partition back there: after a seek too."""
    given = []
    put_on = Consumer.incremental_assign

    def incremental_assign(self, partitions):
        given.extend(each.offset for each in partitions)
        put_on(self, partitions)

    monkeypatch.setattr(client, "Consumer", Consumer)
    monkeypatch.setattr(Consumer, "incremental_assign", incremental_assign)
    monkeypatch.setattr(Consumer, "committed", lambda self, asked, timeout: asked)
    instance = Instance("g", "one", "somebody", Options(JSON, reset))
    getattr(instance, choose)(["orders"] if choose == "subscribe" else [("orders", 0)])
    assert [each["offset"] for each in instance.read(0.1, 1_000_000)] == expected
    instance.seek({("orders", 0): 3})
    assert [each["offset"] for each in instance.read(0.1, 1_000_000)] == [3, 4]
    assert given == [0 if expected else 5, 3]
