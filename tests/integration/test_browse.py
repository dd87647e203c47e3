"""Looking into partitions straight from Kafka: what is shown, what is not, and that it ends."""

import time
from datetime import UTC, datetime, timedelta

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from django.contrib.auth.models import Permission

from tests.waiting import eventually
from tk.access import CODE, Caller
from tk.errors import Forbidden, InvalidPartition, NotSent, Unauthenticated, UnknownTopic
from tkcons import browse
from tkcons.models import Message

pytestmark = [pytest.mark.kafka, pytest.mark.django_db]


def seen(look: browse.Look) -> list[str]:
    return [bytes(message.value).decode() for message in look.messages]


def numbers(*span: int) -> list[str]:
    return [str(number) for number in range(*span)]


def test_the_newest_then_back_then_on(send, topic):
    send(topic, *range(120))
    newest = browse.look(CODE, topic, 0, limit=50)
    assert seen(newest) == numbers(70, 120)
    assert (newest.low, newest.high, newest.before, newest.after) == (0, 120, 70, None)
    older = browse.look(CODE, topic, 0, before=newest.before, limit=50)
    assert seen(older) == numbers(20, 70)
    assert (older.before, older.after) == (20, 70)
    first = browse.look(CODE, topic, 0, before=older.before, limit=50)
    assert seen(first) == numbers(20)
    assert (first.before, first.after, first.whole) == (None, 20, True)
    on = browse.look(CODE, topic, 0, offset=100, limit=10)
    assert seen(on) == numbers(100, 110)
    assert (on.before, on.after) == (100, 110)


@pytest.mark.parametrize(("offset", "found"), [(-5, 10), (10, 0), (10**12, 0)])
def test_an_offset_outside_is_put_inside(send, topic, offset, found):
    send(topic, *range(10))
    assert len(browse.look(CODE, topic, 0, offset=offset).messages) == found


def test_by_time(broker, topic):
    producer = Producer({"bootstrap.servers": broker})
    noon = datetime(2026, 1, 31, 12, tzinfo=UTC)
    for hour in range(5):
        at = noon + timedelta(hours=hour)
        producer.produce(topic, str(hour), timestamp=int(at.timestamp() * 1000))
    assert producer.flush(20) == 0
    assert seen(browse.look(CODE, topic, 0, at=noon + timedelta(hours=2, minutes=1))) == ["3", "4"]
    assert seen(browse.look(CODE, topic, 0, at=noon - timedelta(days=9))) == numbers(5)
    for early in (datetime.min.replace(tzinfo=UTC), datetime(1969, 12, 31, 23, 59, 59, 999_000, UTC)):
        assert seen(browse.look(CODE, topic, 0, at=early)) == numbers(5)
    late = browse.look(CODE, topic, 0, at=noon + timedelta(days=9))
    assert (seen(late), late.before, late.after) == ([], 5, None)


def test_every_kind_of_message_and_nothing_is_stored(broker, topic):
    producer = Producer({"bootstrap.servers": broker})
    producer.produce(topic, b"\x00\xff", key=b"\xfe", headers=[("a", None), ("b", b"\xff")])
    producer.produce(topic, None, key="gone")
    assert producer.flush(20) == 0
    binary, tombstone = browse.look(CODE, topic, 0).messages
    assert (binary.value, binary.key, binary.offset, binary.position.topic) == (b"\x00\xff", b"\xfe", 0, topic)
    assert (tombstone.value, tombstone.key) == (None, b"gone")
    assert not Message.objects.exists()


def test_it_joins_no_group_and_moves_no_offset(send, topic, kafka_admin):
    send(topic, "a")
    browse.look(CODE, topic, 0)
    known = kafka_admin.list_consumer_groups(request_timeout=10).result()
    assert "tkcons-browse" not in {group.group_id for group in known.valid}


def test_only_what_is_committed(broker, topic, send):
    producer = Producer({"bootstrap.servers": broker, "transactional.id": topic})
    producer.init_transactions(20)
    for end in ("abort", "commit"):
        producer.begin_transaction()
        producer.produce(topic, end)
        producer.flush(20)
        (producer.abort_transaction if end == "abort" else producer.commit_transaction)(20)
    producer.begin_transaction()
    producer.produce(topic, "open")
    producer.flush(20)
    began = time.monotonic()
    look = browse.look(CODE, topic, 0)
    assert (seen(look), look.after, look.whole) == (["commit"], None, True)
    assert seen(browse.look(CODE, topic, 0, offset=0)) == ["commit"]
    assert time.monotonic() - began < browse.LOOK_SECONDS  # neither waited for what does not come
    producer.abort_transaction(20)


def test_gaps_of_compaction_are_passed(broker, make_topic):
    topic = make_topic(
        cleanup_policy="compact", min_cleanable_dirty_ratio="0.001", segment_ms="100", max_compaction_lag_ms="100"
    )
    producer = Producer({"bootstrap.servers": broker, "linger.ms": 5})
    for number in range(400):
        producer.produce(topic, str(number), key="first" if number == 0 else "same")
    assert producer.flush(20) == 0

    def compacted() -> bool:
        producer.produce(topic, "x", key="another")  # a new segment: the last one is never compacted
        producer.flush(20)
        return len(browse.look(CODE, topic, 0, offset=0, limit=200).messages) < 100

    eventually(compacted, 60)
    high = browse.look(CODE, topic, 0).high
    forward = browse.look(CODE, topic, 0, offset=1, limit=1)
    assert seen(forward) == ["399"]
    back = browse.look(CODE, topic, 0, before=399, limit=10)
    assert (seen(back), back.before) == (["0"], None)
    assert high > 400


def test_memory_is_bounded(broker, topic, monkeypatch):
    monkeypatch.setattr(browse, "LOOK_BYTES", 2_500)
    producer = Producer({"bootstrap.servers": broker})
    for number in range(5):
        producer.produce(topic, f"{number:01000}")
    assert producer.flush(20) == 0
    look = browse.look(CODE, topic, 0, offset=0)
    assert (len(look.messages), look.after, look.whole) == (2, 2, False)
    newest = browse.look(CODE, topic, 0)
    assert ([m.offset for m in newest.messages], newest.before) == ([3, 4], 3)
    monkeypatch.setattr(browse, "LOOK_BYTES", 10)
    assert len(browse.look(CODE, topic, 0, offset=0).messages) == 1


def test_time_is_bounded(send, topic, monkeypatch):
    send(topic, *range(5))
    monkeypatch.setattr(browse, "LOOK_SECONDS", 0.0)
    for look in (browse.look(CODE, topic, 0), browse.look(CODE, topic, 0, offset=2)):
        assert (look.messages, look.whole) == ([], False)


def test_what_is_not_there(topic, broker, settings):
    with pytest.raises(InvalidPartition):
        browse.look(CODE, topic, 1)
    with pytest.raises(UnknownTopic):
        browse.look(CODE, "test-nobody-made-this", 0)
    with pytest.raises(UnknownTopic):
        browse.one("test-nobody-made-this", CODE)
    with pytest.raises(Forbidden, match="internal"):
        browse.look(CODE, "__consumer_offsets", 0)
    settings.KAFKA_BROKER_URL = "localhost:1"
    began = time.monotonic()
    with pytest.raises(NotSent):
        browse.look(CODE, topic, 0)
    assert time.monotonic() - began < 15


def test_who_may_see_what(topic, broker, settings, django_user_model):
    settings.TK = {"TOPICS": ["test-*"]}
    user = django_user_model.objects.create_user("ann")
    for caller, error in ((Caller(""), Unauthenticated), (Caller("ann", user), Forbidden)):
        for ask in (
            lambda caller=caller: browse.look(caller, topic, 0),
            lambda caller=caller: browse.listed(caller),
            lambda caller=caller: browse.one(topic, caller),
        ):
            with pytest.raises(error):
                ask()
    user.user_permissions.add(Permission.objects.get(codename="produce"))
    ann = Caller("ann", django_user_model.objects.get(pk=user.pk))
    assert topic in browse.listed(ann)
    assert browse.one(topic, ann)[0].name == topic
    with pytest.raises(Forbidden, match="view_payload"):  # which topics there are is not what is in them
        browse.look(ann, topic, 0)
    settings.TK = {"TOPICS": ["orders"]}
    assert browse.listed(ann) == []
    with pytest.raises(Forbidden):
        browse.one(topic, ann)
    token = Caller("token t", None, frozenset({"tkcons.view_payload"}), ("payments",))
    settings.TK = {"TOPICS": ["*"]}
    assert topic not in browse.listed(token)
    with pytest.raises(Forbidden):
        browse.look(token, topic, 0)


def test_a_look_beside_consumers_reads_the_same(send, topic, broker):
    send(topic, *range(10))
    consumer = Consumer({"bootstrap.servers": broker, "group.id": f"g-{topic}", "auto.offset.reset": "earliest"})
    consumer.assign([TopicPartition(topic, 0, 0)])
    there = [message.value().decode() for message in consumer.consume(10, 20)]
    consumer.close()
    assert seen(browse.look(CODE, topic, 0)) == there
