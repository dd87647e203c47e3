"""The runner on the real broker: from a topic to the sinks, once each, in order, whatever happens on the way."""

import threading
import time
from io import StringIO
from pathlib import Path

import msgspec
import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import NewPartitions
from django.contrib.auth.models import Group as Role
from django.core.management import CommandError, call_command

from tests.integration.consuming import QUICK, database, held, numbers, running, values
from tests.waiting import eventually
from tk import topics
from tk.access import Caller
from tkcons import groups, positions, session
from tkcons.errors import RetryLater, SinkUnavailable
from tkcons.groups import Spec
from tkcons.models import Group, Member, Message, Position
from tkcons.sinks import DatabaseSink, TextFileSink
from tkcons.sinks.base import Place

pytestmark = [pytest.mark.kafka, pytest.mark.django_db(transaction=True)]


@pytest.fixture(autouse=True)
def _settings(settings, broker):
    settings.TKCONS = QUICK


def test_messages_are_stored_in_order(send, topic, group):
    send(topic, *range(50))
    with running(database(group, topic)):
        eventually(lambda: len(values(group)) == 50)
        send(topic, *range(50, 60))
        eventually(lambda: len(values(group)) == 60)
    assert values(group) == numbers(60)
    assert Position.objects.get(group=group).next_offset == 60


def test_a_new_runner_goes_on_where_the_last_one_stopped(send, topic, group):
    send(topic, *range(10))
    with running(database(group, topic)):
        eventually(lambda: len(values(group)) == 10)
    send(topic, *range(10, 20))
    with running(database(group, topic)):
        eventually(lambda: len(values(group)) == 20)
    assert values(group) == numbers(20)


def test_the_stored_position_wins_over_kafkas(send, broker, topic, group):
    send(topic, *range(10))
    with running(database(group, topic)):
        eventually(lambda: len(values(group)) == 10)
    consumer = Consumer({"bootstrap.servers": broker, "group.id": group})
    (seen,) = consumer.committed([TopicPartition(topic, 0)], timeout=10)
    assert seen.offset == 10  # for lag tools
    consumer.commit(offsets=[TopicPartition(topic, 0, 3)], asynchronous=False)
    consumer.close()
    send(topic, 10)
    with running(database(group, topic)):
        eventually(lambda: len(values(group)) == 11)
    assert values(group) == numbers(11)


def test_at_first_contact_kafkas_position_counts(send, broker, topic, group):
    send(topic, *range(10))
    consumer = Consumer({"bootstrap.servers": broker, "group.id": group})
    consumer.commit(offsets=[TopicPartition(topic, 0, 7)], asynchronous=False)
    consumer.close()
    with running(database(group, topic)):
        eventually(lambda: len(values(group)) == 3)
    assert values(group) == ["7", "8", "9"]


def test_latest_is_resolved_once_and_stored_before_any_message(send, topic, group, settings):
    settings.TKCONS = {**QUICK, "START": "latest"}
    send(topic, *range(5))
    with running(database(group, topic)):
        eventually(lambda: Position.objects.filter(group=group, next_offset=5).exists())
    send(topic, 5, 6)
    with running(database(group, topic)):
        eventually(lambda: len(values(group)) == 2)
    assert values(group) == ["5", "6"]


def test_partitions_that_the_topic_grows_start_at_their_beginning(send, kafka_admin, topic, group, settings):
    settings.KAFKA_CLIENT = {"topic.metadata.refresh.interval.ms": 500}
    settings.TKCONS = {**QUICK, "START": "latest"}
    with running(database(group, topic)):
        eventually(lambda: Position.objects.filter(group=group).exists())
        kafka_admin.create_partitions([NewPartitions(topic, 2)])[topic].result(10)
        send(topic, "grown", partition=1)
        eventually(lambda: values(group) == ["grown"], 30)


@pytest.mark.parametrize("old", [5, 50])
def test_a_topic_made_again_is_read_from_its_start(send, broker, make_topic, kafka_admin, group, settings, old):
    """With fewer messages than before, and with as many: the consumer's offset is outside the new topic, or inside."""
    settings.KAFKA_CLIENT = {"topic.metadata.refresh.interval.ms": 500}
    topic = make_topic()
    send(topic, *range(old))
    with running(database(group, topic)):
        eventually(lambda: len(values(group)) == old)
        kafka_admin.delete_topics([topic])[topic].result(10)
        eventually(lambda: topic not in kafka_admin.list_topics(timeout=10).topics)
        time.sleep(1.5)  # the broker deletes the old one's files
        make_topic(name=topic)
        again = [f"new-{number}" for number in range(20)]
        eventually(lambda: _sent(send, topic, again))
        eventually(lambda: len(values(group)) == old + 20, 40)
    assert values(group) == [*numbers(old), *again]
    assert Position.objects.filter(group=group, topic=topic).count() == 2


def test_a_topic_made_again_while_the_group_pauses_is_read_from_its_start(
    send, make_topic, kafka_admin, group, settings
):
    """Kafka goes on at the old offset without an error, for the new topic has as many messages."""
    settings.KAFKA_CLIENT = {"topic.metadata.refresh.interval.ms": 60_000}  # it does not see the topic go
    settings.TKCONS = {
        **QUICK,
        "SINKS": {"x": {"class": "tkcons.sinks.DatabaseSink", "topics": [topic := make_topic()], "group": group}},
    }
    code = Caller("test", everything=True)
    send(topic, *range(10))
    with running(groups.spec(group)):
        eventually(lambda: len(values(group)) == 10)
        groups.want(Group.State.PAUSED, code, [group])
        eventually(lambda: _states(group) == ["paused"])
        kafka_admin.delete_topics([topic])[topic].result(10)
        eventually(lambda: topic not in kafka_admin.list_topics(timeout=10).topics)
        make_topic(name=topic)
        again = [f"new-{number}" for number in range(30)]
        eventually(lambda: _sent(send, topic, again))
        groups.want(Group.State.RUNNING, code, [group])
        eventually(lambda: len(values(group)) == 40, 40)
    assert values(group) == [*numbers(10), *again]


def _sent(send, topic, again) -> bool:
    send(topic, *again)
    return True


def test_messages_that_expired_unread_stop_the_partition_and_alarm(send, kafka_admin, make_topic, group):
    topic = make_topic(2)
    send(topic, *range(10))
    with running(database(group, topic)):
        eventually(lambda: len(values(group)) == 10)
    send(topic, *range(10, 20))
    kafka_admin.delete_records([TopicPartition(topic, 0, 15)])[TopicPartition(topic, 0)].result(10)
    with running(database(group, topic)):
        eventually(lambda: any("expired unread" in member.error for member in Member.objects.all()))
        send(topic, "neighbour", partition=1)
        eventually(lambda: len(values(group)) == 11)
    assert values(group) == [*numbers(10), "neighbour"]


def test_a_position_past_kafkas_end_stops_the_partition_and_alarms(send, make_topic, group):
    """As after an election of a broker that lagged: it lost what the group has stored."""
    topic = make_topic(2)
    send(topic, *range(10))
    with running(database(group, topic)):
        eventually(lambda: len(values(group)) == 10)
    Position.objects.filter(group=group, partition=0).update(next_offset=15)
    with running(database(group, topic)):
        eventually(lambda: any("cut back, and ends at 10" in member.error for member in Member.objects.all()))
        send(topic, *range(10, 20))  # new messages under the offsets of the lost ones
        send(topic, "neighbour", partition=1)
        eventually(lambda: len(values(group)) == 11)
        time.sleep(1)
    assert values(group) == [*numbers(10), "neighbour"]


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


@pytest.mark.parametrize("kind", ["database", "file"])
def test_a_person_can_go_on_past_what_expired(send, kafka_admin, topic, group, settings, tmp_path, kind):
    sinks = {
        "database": {"class": "tkcons.sinks.DatabaseSink"},
        "file": {"class": "tkcons.sinks.JsonLinesSink", "path": tmp_path / "lines.jsonl"},
    }
    settings.TKCONS = {**QUICK, "SINKS": {"x": {**sinks[kind], "topics": [topic], "group": group}}}

    def stored() -> int:
        path = tmp_path / "lines.jsonl"
        return len(values(group)) if kind == "database" else path.read_text().count("\n") if path.exists() else 0

    send(topic, *range(10))
    with running(groups.spec(group)):
        eventually(lambda: stored() == 10)
        with pytest.raises(CommandError, match="stop it first"):
            call_command("group", "skip", group)
    send(topic, *range(10, 20))
    kafka_admin.delete_records([TopicPartition(topic, 0, 15)])[TopicPartition(topic, 0)].result(10)
    out = StringIO()
    call_command("group", "skip", group, stdout=out)
    assert out.getvalue() == f"{group}: {topic}[0]: offsets 10 to 14 were lost, goes on at 15\n"
    with running(groups.spec(group)):
        eventually(lambda: stored() == 15)


def test_a_megabyte_a_tombstone_and_bytes(broker, topic, group):
    producer = Producer({"bootstrap.servers": broker, "message.max.bytes": 1_100_000})
    producer.produce(topic, b"x" * 1_048_576, headers=[("a", b"\xff"), ("b", None)])
    producer.produce(topic, None, key=b"k")
    producer.produce(topic, b"\x00\xff")
    producer.flush(10)
    with running(database(group, topic)):
        eventually(lambda: Message.objects.count() == 3)
    first, second, third = Message.objects.order_by("pk")
    assert (len(first.value), first.headers) == (1_048_576, '[["a","/w==","base64"],["b",null]]')
    assert (second.value, bytes(second.key), bytes(third.value)) == (None, b"k", b"\x00\xff")


def test_ten_megabytes(broker, make_topic, group):
    """Far past fetch.message.max.bytes, and past BATCH_BYTES of the smallest installation."""
    topic = make_topic(max_message_bytes="11000000")
    producer = Producer({"bootstrap.servers": broker, "message.max.bytes": 11_000_000})
    for number in range(3):
        producer.produce(topic, bytes([number]) * 10_485_760)
    producer.produce(topic, b"small")
    assert producer.flush(30) == 0
    with running(database(group, topic)):
        eventually(lambda: Message.objects.count() == 4, 40)
    sizes = [len(row.value) for row in Message.objects.order_by("pk").iterator()]
    assert sizes == [10_485_760] * 3 + [5]


def test_a_deleted_topic_does_not_hold_the_others_up(send, make_topic, kafka_admin, group, settings):
    settings.KAFKA_CLIENT = {"topic.metadata.refresh.interval.ms": 500}
    kept, deleted = make_topic(), make_topic()
    send(kept, 0)
    send(deleted, 0)
    with running(database(group, kept, deleted)):
        eventually(lambda: len(values(group)) == 2)
        kafka_admin.delete_topics([deleted])[deleted].result(10)
        eventually(lambda: deleted not in kafka_admin.list_topics(timeout=10).topics)
        for number in range(1, 6):
            send(kept, number)
            eventually(lambda number=number: len(values(group)) == 2 + number)
    assert Position.objects.filter(group=group, topic=deleted).count() == 1


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
    assert seen.offset < 0  # none


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


def test_stop_pause_and_start_by_the_desired_state(send, topic, group, settings):
    settings.TKCONS = {
        **QUICK,
        "SINKS": {"x": {"class": "tkcons.sinks.DatabaseSink", "topics": [topic], "group": group}},
    }
    code = Caller("test", everything=True)
    send(topic, 0)
    with running(groups.spec(group)):
        eventually(lambda: len(values(group)) == 1)
        for state in (Group.State.PAUSED, Group.State.STOPPED):
            groups.want(state, code, [group])
            eventually(lambda state=state: _states(group) == [state.value])
            before = len(values(group))
            send(topic, "later")
            time.sleep(0.5)
            assert len(values(group)) == before
            groups.want(Group.State.RUNNING, code, [group])
            eventually(lambda before=before: len(values(group)) == before + 1)
    assert _states(group) == []


def _states(group: str) -> list[str]:
    return [member.state for member in Member.objects.filter(group=group)]


def test_a_heartbeat_tells_partitions_and_lag(send, topic, group):
    send(topic, *range(7))
    with running(database(group, topic)):
        row = eventually(lambda: next((row for row in held(group) if row["position"] == 7 and row["end"]), None))
    assert row == {"topic": topic, "partition": 0, "position": 7, "end": 7, "lag": 0}


def test_a_transaction_that_is_aborted_is_not_stored(broker, topic, group):
    producer = Producer({"bootstrap.servers": broker, "transactional.id": group})
    producer.init_transactions(20)
    for value, end in ((b"aborted", producer.abort_transaction), (b"committed", producer.commit_transaction)):
        producer.begin_transaction()
        producer.produce(topic, value)
        producer.flush(10)
        end(10)
    with running(database(group, topic)):
        eventually(lambda: values(group) == ["committed"])


def test_a_sink_of_somebodys_own_by_its_name_in_the_settings(send, topic, group, settings):
    mine = {"class": "tests.handling.totals.Totals", "topics": [topic], "group": group, "prefix": "mine-"}
    settings.TKCONS = {**QUICK, "SINKS": {"mine": mine}}
    send(topic, *range(3))
    with running(groups.spec(group)):
        eventually(lambda: Role.objects.count() == 3)
    assert sorted(Role.objects.values_list("name", flat=True)) == ["mine-0-0", "mine-0-1", "mine-0-2"]


def test_the_file_sink_with_a_second_runner_in_standby(send, topic, group, tmp_path):
    spec = Spec(group, (topic,), TextFileSink, {"path": tmp_path / "consumed.txt"})
    send(topic, 0)
    with running(spec):
        eventually(lambda: "offset=0" in _text(tmp_path))
        with running(spec) as second:
            eventually(lambda: second.state == "waiting")
            send(topic, 1)
            eventually(lambda: "offset=1" in _text(tmp_path))
    assert _text(tmp_path).count("<br>") == 2


def _text(folder: Path) -> str:
    path = folder / "consumed.txt"
    return path.read_text() if path.exists() else ""
