"""The runner on the real broker: from a topic to the sinks, once each and in order; stopped, paused and started."""

import time
from pathlib import Path

import pytest
from confluent_kafka import Producer
from django.contrib.auth.models import Group as Role

from tests.integration.consuming import QUICK, database, held, numbers, running, states, values
from tests.waiting import eventually
from tk.access import Caller
from tkcons import groups
from tkcons.groups import Spec
from tkcons.models import Group, Message, Position
from tkcons.sinks import TextFileSink

pytestmark = [pytest.mark.kafka, pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("quick")]


def test_messages_are_stored_in_order(send, topic, group):
    send(topic, *range(50))
    with running(database(group, topic)):
        eventually(lambda: len(values(group)) == 50)
        send(topic, *range(50, 60))
        eventually(lambda: len(values(group)) == 60)
    assert values(group) == numbers(60)
    assert Position.objects.get(group=group).next_offset == 60


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
            eventually(lambda state=state: states(group) == [state.value])
            before = len(values(group))
            send(topic, "later")
            time.sleep(0.5)
            assert len(values(group)) == before
            groups.want(Group.State.RUNNING, code, [group])
            eventually(lambda before=before: len(values(group)) == before + 1)
    assert states(group) == []


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
