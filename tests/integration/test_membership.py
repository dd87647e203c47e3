"""Several runners of one group, under both group protocols: partitions shared, moved, and kept by static members."""

import threading
import time

import pytest

from tests.integration.consuming import QUICK, by_member, database, held, running, values
from tests.waiting import eventually
from tkcons.models import Group, Member, Position
from tkcons.sinks import DatabaseSink

pytestmark = [pytest.mark.kafka, pytest.mark.django_db(transaction=True)]


@pytest.fixture(autouse=True, params=["classic", "consumer"])
def _settings(settings, broker, request):
    settings.TKCONS = {**QUICK, "PROTOCOL": request.param}


def test_two_runners_share_the_partitions(send, make_topic, group):
    topic = make_topic(4)
    with running(database(group, topic)):
        eventually(lambda: len(held(group)) == 4)
        with running(database(group, topic)):
            eventually(lambda: [len(rows) for rows in by_member(group)] == [2, 2], 30)
            for partition in range(4):
                send(topic, *range(100), partition=partition)
            eventually(lambda: len(values(group)) == 400)
        eventually(lambda: len(held(group)) == 4, 30)
        send(topic, "last", partition=3)
        eventually(lambda: len(values(group)) == 401)
    for position in Position.objects.filter(group=group):
        stored = list(position.messages.order_by("pk").values_list("offset", flat=True))
        assert stored == list(range(position.next_offset))


def test_what_is_being_written_is_finished_before_the_partition_moves(send, make_topic, group, monkeypatch, caplog):
    writing = threading.Event()
    real = DatabaseSink.write

    def write(self, batches):
        if any(message.value() == b"slow" for batch in batches for message in batch.messages):
            writing.set()
            time.sleep(3)
        real(self, batches)

    monkeypatch.setattr(DatabaseSink, "write", write)
    topic = make_topic(2)
    caplog.set_level("INFO", "tkcons")
    with running(database(group, topic)):
        eventually(lambda: len(held(group)) == 2)
        for partition in range(2):
            send(topic, "slow", partition=partition)
        assert writing.wait(20)
        with running(database(group, topic)):
            eventually(lambda: [len(rows) for rows in by_member(group)] == [1, 1], 40)
            eventually(lambda: len(values(group)) == 2)
    assert values(group) == ["slow", "slow"]
    assert "refused" not in [record.message for record in caplog.records]


def test_a_static_member_that_is_away_for_a_while_keeps_its_partition(send, make_topic, group):
    topic = make_topic(2)
    with running(database(group, topic), "host-0"):
        with running(database(group, topic), "host-1"):
            eventually(lambda: [len(rows) for rows in by_member(group)] == [1, 1], 40)
            (kept,), (left,) = by_member(group)
            before = Position.objects.get(group=group, partition=kept["partition"]).generation
        send(topic, "meanwhile", partition=left["partition"])
        time.sleep(3)  # a dynamic member's partition would have moved: it leaves the group when it ends
        assert [row["partition"] for row in held(group)] == [kept["partition"]]
        assert values(group) == []
        numbers = [[kept["partition"]], [left["partition"]]]
        began = time.monotonic()
        with running(database(group, topic), "host-1"):
            eventually(lambda: values(group) == ["meanwhile"], 8)  # within its session timeout
            assert time.monotonic() - began < 8
            eventually(lambda: [[row["partition"] for row in rows] for rows in by_member(group)] == numbers)
        assert Position.objects.get(group=group, partition=kept["partition"]).generation == before


def test_a_pause_does_not_come_back_with_a_partition(send, make_topic, group):
    """One that was paused when it went is read when it returns."""
    topic = make_topic(2)
    with running(database(group, topic)):
        eventually(lambda: len(held(group)) == 2)
        Group.objects.filter(name=group).update(desired=Group.State.PAUSED)
        eventually(lambda: Member.objects.get(group=group).state == "paused")
        with running(database(group, topic)):
            eventually(lambda: [len(rows) for rows in by_member(group)] == [1, 1], 40)
            Group.objects.filter(name=group).update(desired=Group.State.RUNNING)
            for partition in range(2):
                send(topic, "resumed", partition=partition)
            eventually(lambda: len(values(group)) == 2)
        eventually(lambda: len(held(group)) == 2, 30)
        for partition in range(2):
            send(topic, "back", partition=partition)
        eventually(lambda: len(values(group)) == 4)
