"""Where a group begins, and how a stopped group is put elsewhere; the audit agrees afterwards."""

import time
from datetime import UTC, datetime, timedelta
from io import StringIO

import pytest
from confluent_kafka import Consumer, Message, Producer, TopicPartition
from django.contrib.auth.models import Group as Role
from django.core.management import CommandError, call_command

from tests.integration.consuming import QUICK, numbers, running, values
from tests.waiting import eventually
from tk import topics
from tk.access import Caller
from tk.errors import Unauthenticated
from tk.record import EVENT_ID_HEADER
from tkcons import groups, handler, handlers, seeking
from tkcons.errors import StaleOwner
from tkcons.groups import spec
from tkcons.models import Gap, Position
from tkcons.models import Message as Stored
from tkcons.sinks.base import Batch, Place

pytestmark = [pytest.mark.kafka, pytest.mark.django_db(transaction=True)]

GROUP = "tkcons.database"


@pytest.fixture(autouse=True)
def _settings(settings, topic, broker, tmp_path, monkeypatch):
    monkeypatch.setattr(handlers, "registry", {})
    monkeypatch.setattr(groups, "registry", handlers.registry)
    settings.TKCONS = {
        **QUICK,
        "SINKS": {
            "database": {"class": "tkcons.sinks.DatabaseSink", "topics": [topic]},
            "file": {"class": "tkcons.sinks.TextFileSink", "topics": [topic], "path": str(tmp_path / "file.txt")},
        },
    }


def store(count: int) -> None:
    with running(spec(GROUP)):
        eventually(lambda: Position.objects.filter(group=GROUP, next_offset=count).exists())


def run(*arguments: str) -> str:
    out = StringIO()
    call_command("group", *arguments, stdout=out)
    return out.getvalue()


def audited() -> str:
    out = StringIO()
    call_command("audit", stdout=out)
    return out.getvalue()


@pytest.fixture
def ten(send, topic):
    """Ten messages in the topic, stored."""
    send(topic, *range(10))
    with running(spec(GROUP)):
        eventually(lambda: len(values(GROUP)) == 10)


def test_reset_stores_everything_again_once(ten, broker, topic):
    assert f"{topic}[0]: from 10 to 0" in run("reset", GROUP)
    assert Stored.objects.count() == 0
    consumer = Consumer({"bootstrap.servers": broker, "group.id": GROUP})
    (seen,) = consumer.committed([TopicPartition(topic, 0)], timeout=10)
    consumer.close()
    assert (seen.offset, seen.metadata) == (0, f"tkcons: began at 0 of {topics.get(topic).id}")
    store(10)
    assert values(GROUP) == numbers(10)
    assert "missing 0, duplicate 0" in audited()


def test_back_to_an_offset(ten):
    run("seek", GROUP, "--to", "4")
    assert values(GROUP) == numbers(4)
    store(10)
    assert values(GROUP) == numbers(10)
    audited()


def test_on_to_an_offset_and_what_lies_between_is_skipped(ten, send, topic):
    send(topic, *range(10, 20))
    run("seek", GROUP, "--to", "15")
    gap = Gap.objects.get(reason=Gap.Reason.SKIPPED)
    assert (gap.first_offset, gap.end_offset) == (10, 15)
    store(20)
    assert values(GROUP) == [*numbers(10), *numbers(5, 15)]
    assert "missing 0, duplicate 0, expired unread 0, accounted 5" in audited()
    run("seek", GROUP, "--to", "12")  # back into what was skipped
    store(20)
    assert values(GROUP) == [*numbers(10), *numbers(8, 12)]
    assert "accounted 2" in audited()


def test_to_a_time_and_to_the_end(ten, send, topic):
    time.sleep(0.05)
    between = datetime.now(UTC)
    send(topic, 10, 11)
    run("seek", GROUP, "--to", "latest")
    assert Position.objects.get(group=GROUP).next_offset == 12
    run("seek", GROUP, "--to", between.isoformat())
    assert Position.objects.get(group=GROUP).next_offset == 10
    later = (between + timedelta(days=1)).isoformat()
    run("seek", GROUP, "--to", later)  # nothing is so late: the end
    assert Position.objects.get(group=GROUP).next_offset == 12
    run("seek", GROUP, "--to", "1969-12-31T23:59:00+00:00")
    assert Position.objects.get(group=GROUP).next_offset == 0


def test_events_after_the_offset_are_no_repeats_any_more(broker, topic):
    producer = Producer({"bootstrap.servers": broker})
    for value in ("a", "b", "a"):
        producer.produce(topic, value, headers=[(EVENT_ID_HEADER, value.encode())])
    assert producer.flush(10) == 0
    store(3)
    assert values(GROUP) == ["a", "b"]
    run("seek", GROUP, "--to", "1")
    store(3)
    assert values(GROUP) == [
        "a",
        "b",
    ]  # b again; the second a still is a repeat, for the first one is before the offset
    assert "missing 0" in audited()


def test_a_handler_is_called_again(send, topic):
    @handler(topic, group="again")
    def keep(message):
        Role.objects.create(name=f"{Role.objects.count()}-{message.offset}")

    send(topic, 0, 1, 2)
    with running(spec("again")):
        eventually(lambda: Role.objects.count() == 3)
    run("seek", "again", "--to", "1")
    with running(spec("again")):
        eventually(lambda: Role.objects.count() == 5)
    assert sorted(Role.objects.values_list("name", flat=True)) == ["0-0", "1-1", "2-2", "3-1", "4-2"]


def test_a_file_does_not_go_back_but_on(send, topic, tmp_path):
    send(topic, *range(5))
    with running(spec("tkcons.file")):
        eventually(lambda: (tmp_path / "file.txt").exists() and "offset=4" in (tmp_path / "file.txt").read_text())
    with pytest.raises(CommandError, match="cannot take back"):
        run("reset", "tkcons.file")
    send(topic, *range(5, 10))
    run("seek", "tkcons.file", "--to", "8")
    with running(spec("tkcons.file")):
        eventually(lambda: "offset=9" in (tmp_path / "file.txt").read_text())
    assert "offset=7" not in (tmp_path / "file.txt").read_text()


def test_a_group_that_runs_is_not_moved(ten):
    with running(spec(GROUP)):
        eventually(lambda: groups.live_members().filter(state="running").exists())
        with pytest.raises(CommandError, match="stop it first"):
            run("reset", GROUP)
    assert len(values(GROUP)) == 10


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["seek", GROUP, "--to", "11"], "has the offsets 0 to 10"),
        (["seek", GROUP, "--to", "soon"], "neither earliest"),
        (["seek", GROUP], "Say where"),
        (["seek", "--to", "0"], "Name the groups"),
        (["seek", GROUP, "--to", "0", "--topic", "other"], "does not read 'other'"),
        (["seek", GROUP, "--to", "0", "--partition", "1"], "has the partitions 0 to 0"),
        (["reset", "nobody"], "no group 'nobody'"),
    ],
)
def test_what_cannot_be_is_refused_and_nothing_moves(ten, arguments, message):
    with pytest.raises(CommandError, match=message):
        run(*arguments)
    assert Position.objects.get(group=GROUP).next_offset == 10


def test_who_may_not_steer_does_not_move(ten):
    with pytest.raises(Unauthenticated):
        seeking.move(GROUP, "earliest", Caller(""))
    assert Position.objects.get(group=GROUP).next_offset == 10


def test_an_owner_of_before_the_move_stores_nothing(ten, topic):
    row = Position.objects.get(group=GROUP)
    place = Place(topic, row.topic_id, 0)
    sink = spec(GROUP).sink()
    claim = sink.claim([place])[place]
    run("seek", GROUP, "--to", "10")
    with pytest.raises(StaleOwner):
        sink.write([Batch(place, claim, [Message(topic=topic, partition=0, offset=10, value=b"late")], 11)])
    assert len(values(GROUP)) == 10


@pytest.mark.parametrize(
    ("start", "expected"),
    [("earliest", numbers(10)), ("latest", []), (7, ["7", "8", "9"]), (99, []), ("time", ["5", "6", "7", "8", "9"])],
)
def test_a_group_begins_where_its_own_start_says(send, topic, settings, start, expected):
    send(topic, *range(5))
    time.sleep(0.05)
    between = datetime.now(UTC)
    send(topic, *range(5, 10))
    sink = {**settings.TKCONS["SINKS"]["database"], "start": between if start == "time" else start}
    settings.TKCONS = {**settings.TKCONS, "SINKS": {"database": sink}}
    with running(spec(GROUP)):
        eventually(lambda: Position.objects.filter(group=GROUP).exists())
        send(topic, "new")
        eventually(lambda: "new" in values(GROUP))
    assert values(GROUP) == [*expected, "new"]
