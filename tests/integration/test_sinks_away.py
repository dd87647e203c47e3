"""Sinks that fail, rest, are slow or belong to another: nothing is lost, and nobody else waits."""

import threading
import time

import msgspec
import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import NewPartitions

from tests.integration.consuming import QUICK, database, numbers, running, values
from tests.waiting import eventually
from tk import topics
from tkcons import positions, session
from tkcons.errors import RetryLater, SinkUnavailable
from tkcons.groups import Spec
from tkcons.models import Member, Position
from tkcons.sinks import DatabaseSink
from tkcons.sinks.base import Place

pytestmark = [pytest.mark.kafka, pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("quick")]


class Choosy(DatabaseSink):
    """Refuses what begins with `later` a number of times, after it has stored what comes before."""

    alone = True
    left = 0

    def write(self, batches):
        (batch,) = batches
        for number, message in enumerate(batch.messages):
            if message.value().startswith(b"later") and Choosy.left:
                Choosy.left -= 1
                if number:
                    super().write([batch._replace(messages=batch.messages[:number], end=message.offset())])
                raise RetryLater("not yet", seconds=0.3, next_offset=message.offset())
        super().write(batches)


def test_a_partition_that_rests_does_not_hold_the_others_up(send, make_topic, group, settings):
    settings.TKCONS = {**QUICK, "BATCH": 100}
    topic = make_topic(2)
    Choosy.left = 8
    send(topic, 0, 1, "later", *range(3, 2_000))
    with running(Spec(group, (topic,), Choosy)):
        eventually(lambda: Choosy.left < 8)
        for number in range(5):  # one after the other, while partition 0 rests
            send(topic, f"other-{number}", partition=1)
            eventually(lambda number=number: f"other-{number}" in values(group), 2)
        assert Choosy.left
        assert "3" not in values(group)
        eventually(lambda: len(values(group)) == 2_005)
    assert [value for value in values(group) if "other" not in value] == ["0", "1", "later", *numbers(1_997, 3)]


def test_a_sink_that_is_away_at_the_assignment_is_waited_for(send, topic, group):
    class Late(DatabaseSink):
        tries = 0

        def claim(self, places):
            Late.tries += 1
            if Late.tries < 3:
                raise SinkUnavailable
            return super().claim(places)

    send(topic, *range(5))
    with running(Spec(group, (topic,), Late)):
        eventually(lambda: len(values(group)) == 5)
    assert values(group) == numbers(5)


def test_a_claim_by_another_owner_refuses_the_write_and_is_recovered_from(send, topic, group):
    send(topic, *range(5))
    with running(database(group, topic)):
        eventually(lambda: len(values(group)) == 5)
        position = Position.objects.get(group=group)
        place = _place(position)
        positions.claim(group, [place], "default")  # a zombie that woke up, or a reset
        send(topic, *range(5, 10))
        eventually(lambda: len(values(group)) == 10)
    assert values(group) == numbers(10)
    assert Position.objects.get(group=group).generation >= position.generation + 2


def _place(position: Position) -> Place:
    return Place(position.topic, position.topic_id, position.partition)


def test_a_sink_that_fails_is_tried_again_and_nothing_is_lost(send, topic, group, monkeypatch):
    real, failures = DatabaseSink.write, iter(range(3))

    def write(self, batches):
        if next(failures, None) is not None:
            raise SinkUnavailable("not now")
        real(self, batches)

    monkeypatch.setattr(DatabaseSink, "write", write)
    send(topic, *range(5))
    with running(database(group, topic)):
        eventually(lambda: values(group) == numbers(5))


def test_a_group_stops_though_its_sink_is_down_and_much_waits(send, topic, group, settings, monkeypatch):
    settings.TKCONS = {**QUICK, "BATCH": 2, "STOP_SECONDS": 2.0}

    def write(self, batches):
        raise SinkUnavailable("down")

    monkeypatch.setattr(DatabaseSink, "write", write)
    send(topic, *range(20))
    with running(database(group, topic)) as runner:
        eventually(lambda: runner._session is not None and runner._session.assignment.full)
        time.sleep(2.5)  # past HOLD_BACK_SECONDS: the partitions are paused
        began = time.monotonic()
    assert time.monotonic() - began < 10


def test_a_group_stops_in_time_though_the_brokers_do_not_answer(send, kafka, topic, group, settings):
    settings.TKCONS = {**QUICK, "STOP_SECONDS": 4.0}
    send(topic, 0)
    try:
        with running(database(group, topic)):
            eventually(lambda: len(values(group)) == 1)
            kafka.pause()  # before the offset is committed
            began = time.monotonic()
        took = time.monotonic() - began
    finally:
        kafka.resume()
    assert took < 10
    eventually(lambda: f"{group}-leave" not in {thread.name for thread in threading.enumerate()}, 30)


def test_kafka_is_told_no_offset_that_is_not_stored(send, broker, topic, group, monkeypatch):
    def write(self, batches):
        raise SinkUnavailable("down")

    monkeypatch.setattr(DatabaseSink, "write", write)
    send(topic, *range(10))
    with running(database(group, topic)):
        eventually(lambda: any("down" in member.error for member in Member.objects.all()))
        time.sleep(1)
    consumer = Consumer({"bootstrap.servers": broker, "group.id": group})
    (seen,) = consumer.committed([TopicPartition(topic, 0)], timeout=10)
    consumer.close()
    assert seen.offset == 0  # where it begins


def test_what_waits_for_a_slow_sink_is_bounded(send, topic, group, settings, monkeypatch):
    settings.TKCONS = {**QUICK, "BATCH": 100, "STOP_SECONDS": 2.0}
    monkeypatch.setattr(session, "HOLD_BACK_SECONDS", 0.3)
    blocked = threading.Event()
    real = DatabaseSink.write

    def write(self, batches):
        blocked.wait(60)
        real(self, batches)

    monkeypatch.setattr(DatabaseSink, "write", write)
    send(topic, *range(5_000))
    with running(database(group, topic)) as runner:
        eventually(lambda: runner._session is not None and runner._session.assignment.full)
        time.sleep(2)
        assert runner._session.assignment._records <= 3 * 100
        blocked.set()
        eventually(lambda: len(values(group)) == 5_000)
    assert values(group) == numbers(5_000)


def test_partitions_that_come_while_a_sink_is_slow_wait_too(
    send, broker, kafka_admin, topic, group, settings, monkeypatch
):
    settings.KAFKA_CLIENT = {"topic.metadata.refresh.interval.ms": 500}
    settings.TKCONS = {**QUICK, "BATCH": 100, "STOP_SECONDS": 2.0}
    monkeypatch.setattr(session, "HOLD_BACK_SECONDS", 0.3)
    blocked = threading.Event()
    real = DatabaseSink.write

    def write(self, batches):
        blocked.wait(60)
        real(self, batches)

    monkeypatch.setattr(DatabaseSink, "write", write)
    send(topic, *range(1_000))
    with running(database(group, topic)) as runner:
        eventually(lambda: runner._session is not None and runner._session._full)
        kafka_admin.create_partitions([NewPartitions(topic, 2)])[topic].result(10)
        other = Producer({"bootstrap.servers": broker})  # `send` does not know of the new partition yet
        for number in range(3_000):
            other.produce(topic, str(number), partition=1)
        assert other.flush(10) == 0
        eventually(lambda: len(runner._session.assignment.positions()) == 2)
        time.sleep(1)
        assert runner._session.assignment._records <= 3 * 100
        blocked.set()
        eventually(lambda: len(values(group)) == 4_000)


def test_a_sink_that_breaks_is_opened_anew(send, topic, group, monkeypatch):
    real, failures = DatabaseSink.write, iter(range(1))

    def write(self, batches):
        if next(failures, None) is not None:
            raise RuntimeError("a defect")
        real(self, batches)

    monkeypatch.setattr(DatabaseSink, "write", write)
    send(topic, *range(5))
    with running(database(group, topic)):
        eventually(lambda: values(group) == numbers(5))


def test_a_sink_that_breaks_at_the_assignment_is_opened_anew(send, topic, group):
    class Broken(DatabaseSink):
        tries = 0

        def claim(self, places):
            Broken.tries += 1
            if Broken.tries < 3:
                raise RuntimeError("a defect")
            return super().claim(places)

    send(topic, *range(5))
    with running(Spec(group, (topic,), Broken)):
        eventually(lambda: values(group) == numbers(5))


def test_a_partition_that_the_asked_broker_does_not_know_yet_is_claimed_later(send, make_topic, group, monkeypatch):
    topic, real, left = make_topic(2), topics.get, iter(range(3))

    def behind(name, fresh=None):
        seen = real(name, fresh)
        return seen if next(left, None) is None else msgspec.structs.replace(seen, partitions=1)

    monkeypatch.setattr(topics, "get", behind)
    for partition in range(2):
        send(topic, str(partition), partition=partition)
    with running(database(group, topic)):
        eventually(lambda: sorted(values(group)) == ["0", "1"])
    assert next(left, None) is None
