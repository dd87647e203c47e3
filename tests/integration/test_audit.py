"""`manage.py audit` on the real broker: silent about what is right, and finds each thing that is not."""

import io
import uuid

import pytest
from confluent_kafka import Message as Kafkas
from confluent_kafka import Producer, TopicPartition
from django.core.management import CommandError, call_command
from django.db import connection
from django.utils import timezone

from tk import topics
from tkcons import deadletters
from tkcons.models import Gap, Message, Position
from tkcons.sinks.base import Place

pytestmark = [pytest.mark.kafka, pytest.mark.django_db(transaction=True)]


@pytest.fixture
def position(broker, topic, kafka_admin) -> Position:
    """Ten messages, an aborted transaction, ten more; all that is served is stored."""
    producer = Producer({"bootstrap.servers": broker, "transactional.id": uuid.uuid4().hex})
    producer.init_transactions(10)
    for commit in (True, False, True):
        producer.begin_transaction()
        for number in range(10):
            producer.produce(topic, str(number).encode())
        producer.flush(10)
        (producer.commit_transaction if commit else producer.abort_transaction)(10)
    producer.close()
    # 0-9 and a marker, 11-20 aborted and a marker, 22-31 and a marker.
    row = Position.objects.create(
        group="audited", topic=topic, topic_id=topics.get(topic).id, partition=0, start_offset=0, next_offset=32
    )
    Message.objects.bulk_create(
        Message(position=row, offset=offset, stored_at=timezone.now()) for offset in (*range(10), *range(22, 32))
    )
    return row


def audit(topic: str, database: str = "default") -> str:
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
    assert "0-5: handled, expired unread 0, dead letters waiting 0" in audit(position.topic)
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
