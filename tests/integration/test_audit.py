"""`manage.py audit` on the real broker: silent about what is right, and finds each thing that is not."""

import io
import uuid
from pathlib import Path

import pytest
from confluent_kafka import Message as Kafkas
from confluent_kafka import Producer, TopicPartition
from django.core.management import CommandError, call_command
from django.db import connection
from django.utils import timezone

from tests.integration.consuming import QUICK, held, running
from tests.waiting import eventually
from tk import topics
from tk.record import EVENT_ID_HEADER
from tkcons import deadletters, groups
from tkcons.models import Gap, Message, Position
from tkcons.sinks.base import Place
from tkcons.sinks.file import FileSink

pytestmark = [pytest.mark.kafka, pytest.mark.django_db(transaction=True)]


def send(broker: str, topic: str) -> None:
    """Ten messages, an aborted transaction, ten more: 0-9 and a marker, 11-20 aborted and a marker, 22-31 and a marker."""
    producer = Producer({"bootstrap.servers": broker, "transactional.id": uuid.uuid4().hex})
    producer.init_transactions(10)
    for commit in (True, False, True):
        producer.begin_transaction()
        for number in range(10):
            producer.produce(topic, str(number).encode())
        producer.flush(10)
        (producer.commit_transaction if commit else producer.abort_transaction)(10)
    producer.close()


@pytest.fixture
def position(broker, topic) -> Position:
    """All that is served of the topic is stored."""
    send(broker, topic)
    row = Position.objects.create(
        group="audited", topic=topic, topic_id=topics.get(topic).id, partition=0, start_offset=0, next_offset=32
    )
    Message.objects.bulk_create(
        Message(position=row, offset=offset, stored_at=timezone.now()) for offset in (*range(10), *range(22, 32))
    )
    return row


def audit(topic: str, database: str | None = "default") -> str:
    """database None: files too."""
    out = io.StringIO()
    try:
        call_command("audit", topic, database=database, stdout=out, no_color=True)
    except CommandError as error:
        return f"{out.getvalue()}CommandError: {error}"
    return out.getvalue()


def test_what_is_right_is_right(position):
    said = audit(position.topic)
    assert "stored 20, missing 0, duplicate 0, expired unread 0, accounted 0, unserved 12" in said
    assert "CommandError" not in said


def test_a_deleted_row_is_missing(position):
    Message.objects.filter(offset=25).delete()
    said = audit(position.topic)
    assert "stored 19, missing 1," in said
    assert "missing: 25" in said
    assert "CommandError" in said


def test_a_doubled_row_is_found(position):
    options = Message._meta
    (unique,) = options.constraints
    options.constraints = []  # as in a partitioned table, which cannot keep it
    with connection.schema_editor() as editor:
        editor.remove_constraint(Message, unique)
    try:
        Message.objects.create(position=position, offset=25, stored_at=timezone.now())
        said = audit(position.topic)
    finally:
        Message.objects.all().delete()
        options.constraints = [unique]
        with connection.schema_editor() as editor:
            editor.add_constraint(Message, unique)
    assert "stored 20, missing 0, duplicate 1," in said
    assert "twice: 25" in said
    assert "CommandError" in said


def test_a_recorded_gap_is_accounted_for(position):
    Message.objects.filter(offset__lt=5).delete()
    Gap.objects.create(position=position, first_offset=0, end_offset=5, reason=Gap.Reason.PRUNED)
    said = audit(position.topic)
    assert "stored 15, missing 0, duplicate 0, expired unread 0, accounted 5," in said
    assert "CommandError" not in said


def test_what_the_group_has_not_come_to_is_not_missing(position):
    Message.objects.filter(offset__gte=25).delete()
    Position.objects.update(next_offset=25)
    assert "CommandError" not in audit(position.topic)


def test_messages_that_expired_unread_are_told(position, kafka_admin):
    Message.objects.filter(offset__gte=5).delete()
    Position.objects.update(next_offset=5)
    kafka_admin.delete_records([TopicPartition(position.topic, 0, 8)])[TopicPartition(position.topic, 0, 8)].result(10)
    said = audit(position.topic)
    assert "stored 5, missing 0, duplicate 0, expired unread 3," in said
    assert "CommandError" in said


def test_a_topic_that_is_gone_is_told(position):
    Position.objects.update(topic_id="another")
    said = audit(position.topic)
    assert "made again" in said
    assert "CommandError" not in said


def test_nothing_to_compare_is_no_success(broker):
    assert "CommandError: No group" in audit("no-such-topic")


def test_a_handlers_group_is_told_with_its_letters_and_what_expired(position, kafka_admin):
    Message.objects.all().delete()
    Position.objects.update(stores=False, next_offset=5)
    assert "0-5: handled, waiting 28, expired unread 0, dead letters waiting 0" in audit(position.topic)
    place = Place(position.topic, position.topic_id, 0)
    message = Kafkas(topic=position.topic, partition=0, offset=3, value=b"x", timestamp=(1, 5))
    deadletters.store(deadletters.make("audited", place, message, ValueError("x"), 1), "default")
    said = audit(position.topic)
    assert "dead letters waiting 1" in said
    assert "CommandError" not in said
    kafka_admin.delete_records([TopicPartition(position.topic, 0, 8)])[TopicPartition(position.topic, 0, 8)].result(10)
    said = audit(position.topic)
    assert "expired unread 3" in said
    assert "CommandError" in said


@pytest.mark.django_db(transaction=True, databases=["default", "postgres"])
def test_on_postgresql(position, postgres_alias):
    position.pk = None
    position.save(using=postgres_alias, force_insert=True)
    rows = [Message(position_id=position.pk, offset=n, stored_at=timezone.now()) for n in (*range(10), *range(22, 32))]
    Message.objects.using(postgres_alias).bulk_create(rows)
    assert "stored 20, missing 0, duplicate 0," in audit(position.topic, postgres_alias)
    Message.objects.using(postgres_alias).filter(offset=25).delete()
    Message.objects.using(postgres_alias).create(position_id=position.pk, offset=3, stored_at=timezone.now())
    said = audit(position.topic, postgres_alias)
    assert "stored 19, missing 1, duplicate 1," in said
    assert "missing: 25; twice: 3" in said


# Files.


@pytest.fixture
def archive(broker, topic, group, settings, tmp_path) -> Path:
    """The topic, and a repeat of an event at 34, in JSON Lines by a runner; the folder of its files."""
    sink = {
        "class": "tkcons.sinks.JsonLinesSink",
        "topics": [topic],
        "group": group,
        "path": tmp_path / "{topic}.jsonl",
    }
    settings.TKCONS = {**QUICK, "SINKS": {"lines": {**sink, "max_bytes": 300}}, "BATCH": 5}
    send(broker, topic)
    producer = Producer({"bootstrap.servers": broker})
    for value in ("a", "a again", "b"):
        producer.produce(topic, value, headers=[(EVENT_ID_HEADER, value[0].encode())])
    assert producer.flush(10) == 0
    with running(groups.spec(group)):
        eventually(lambda: [row["position"] for row in held(group)] == [36])
    assert len(list(tmp_path.glob(f"{topic}.jsonl.0*"))) > 1
    return tmp_path


def test_lines_are_compared_whichever_file_they_are_in(archive, topic):
    said = audit(topic, None)
    assert "0-36: stored 22, missing 0, duplicate 0, expired unread 0, accounted 1, unserved 13" in said
    assert "1 of 1 partitions compared" in said


def test_a_line_that_is_gone_is_missing(archive, topic):
    first = archive / f"{topic}.jsonl.000001"
    first.write_bytes(b"".join(first.read_bytes().splitlines(keepends=True)[1:]))
    said = audit(topic, None)
    assert "stored 21, missing 1," in said
    assert "missing: 0" in said
    assert "CommandError" in said


def test_lines_that_come_again_are_told(archive, topic):
    first, second = (archive / f"{topic}.jsonl.{number:06}" for number in (1, 2))
    second.write_bytes(first.read_bytes().splitlines(keepends=True)[0] + second.read_bytes())
    said = audit(topic, None)
    assert "stored 22, missing 0, duplicate 1," in said
    assert "twice: 0" in said
    assert "CommandError" in said


def test_what_was_never_recorded_is_not_stored(archive, topic, group):
    """As a write that is under way leaves it: the sink cuts it off when it opens the file."""
    sink = groups.spec(group).sink()
    sink.open()  # puts the last file aside, if it is full
    sink.close()
    with (archive / f"{topic}.jsonl").open("ab") as file:
        file.write(b'{"topic":"%b","partition":0,"offset":5}\n{"to' % topic.encode())
    assert "stored 22, missing 0, duplicate 0," in audit(topic, None)


def test_a_line_that_the_sink_did_not_write_is_told(archive, topic):
    (archive / f"{topic}.jsonl.000001").write_bytes(b"what is this?\n")
    assert "has a line that the sink did not write" in audit(topic, None)


def test_a_topic_that_was_made_again_is_not_taken_for_the_one_before(archive, topic, group):
    sink = groups.spec(group).sink()
    sink.open()
    sink.begin({Place(topic, "another", 0): 0})
    sink.close()
    said = audit(topic, None)
    assert said.count("made again") == 2
    assert "0 of 2 partitions compared" in said


def test_what_is_not_compared_is_said(archive, topic, settings, tmp_path):
    text = {"class": "tests.integration.test_audit.Own", "topics": [topic], "path": tmp_path / "own.txt"}
    settings.TKCONS = {**QUICK, "SINKS": {"own": text}}
    assert "tkcons.own: its files are not on this host" in audit(topic, None)
    sink = groups.spec("tkcons.own").sink()
    sink.open()
    sink.begin({Place(topic, topics.get(topic).id, 0): 0})
    sink.close()
    said = audit(topic, None)
    assert "lines of its own are not compared" in said
    assert "0 of 1 partitions compared" in said


class Own(FileSink):
    def text(self, messages):
        return b""


def test_lines_of_text_are_compared_and_what_was_emptied_is_accounted_for(broker, topic, group, settings, tmp_path):
    path = tmp_path / "{topic}.txt"
    text = {"class": "tkcons.sinks.TextFileSink", "topics": [topic], "group": group, "path": path, "max_bytes": 1_500}
    settings.TKCONS = {**QUICK, "SINKS": {"text": text}, "BATCH": 5}
    producer = Producer({"bootstrap.servers": broker})

    def store(*texts: str) -> None:
        for value in texts:
            producer.produce(topic, value, key="a\nb")
        assert producer.flush(10) == 0
        with running(groups.spec(group)):
            eventually(lambda: [row["lag"] for row in held(group)] == [0])

    store("a\nConsumerRecord(topic=", *"bcdefghijklm")
    assert list(tmp_path.glob(f"{topic}.txt.0*"))
    assert "0-13: stored 13, missing 0, duplicate 0, expired unread 0, accounted 0" in audit(topic, None)
    first = tmp_path / f"{topic}.txt.000001"
    whole = first.read_bytes()
    first.write_bytes(b"".join(whole.splitlines(keepends=True)[1:]))
    assert "missing: 0" in audit(topic, None)
    first.write_bytes(whole + whole.splitlines(keepends=True)[-1])
    assert "duplicate 1" in audit(topic, None)
    first.write_bytes(b"<html>\n")
    assert "has a line that the sink did not write" in audit(topic, None)
    for aside in tmp_path.glob(f"{topic}.txt.0*"):
        aside.unlink()
    groups.spec(group).sink().announce("another start")
    store("n", "o")
    said = audit(topic, None)
    assert "0-15: stored 2, missing 0, duplicate 0, expired unread 0, accounted 13" in said
    assert "CommandError" not in said
