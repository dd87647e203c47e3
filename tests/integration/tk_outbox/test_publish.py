"""From publish() in a transaction to the topic, on SQLite and PostgreSQL and the real broker."""

import threading

import pytest
from django.db import connections, transaction

import tk
from tests.integration.tk_outbox.outbox import State, states
from tk import errors
from tk.models import OutboxEvent
from tk.outbox import publish, publish_many

pytestmark = [pytest.mark.kafka, pytest.mark.postgres]


def test_a_commit_sends_and_a_rollback_does_not(alias, relay, topic, read):
    with transaction.atomic(using=alias):
        event_id = publish(topic, {"id": 1}, key="k", headers={"a": "b"}, using=alias)
        with transaction.atomic(using=alias):
            publish(topic, "inner", using=alias)
            transaction.set_rollback(True, using=alias)
    with transaction.atomic(using=alias):
        publish(topic, "outer", using=alias)
        transaction.set_rollback(True, using=alias)
    relay()
    (message,) = read(topic)
    assert (message.key(), message.value()) == (b"k", b'{"id":1}')
    assert message.headers() == [("tk-event-id", str(event_id).encode()), ("a", b"b")]
    event = OutboxEvent.objects.using(alias).get()
    assert (event.state, event.sent_partition, event.sent_offset) == (State.SENT, 0, 0)
    assert event.sent_at >= event.created_at
    relay()
    assert len(read(topic)) == 1


def test_every_part_of_a_record_arrives(alias, relay, make_topic, read):
    topic = make_topic(partitions=3)
    publish(
        topic,
        b"\x00\xff",
        key=b"\xff",
        headers=[("n", None), ("x", b"\xff")],
        partition=2,
        timestamp=1_700_000_000_000,
        using=alias,
    )
    publish(topic, None, key="gone", partition=2, using=alias)
    relay()
    first, second = read(topic, 2)
    assert (first.key(), first.value(), first.timestamp()) == (b"\xff", b"\x00\xff", (1, 1_700_000_000_000))
    assert first.headers()[1:] == [("n", None), ("x", b"\xff")]
    assert (second.key(), second.value()) == (b"gone", None)


def test_bad_records_are_refused_in_the_transaction(alias, topic):
    with pytest.raises(errors.InvalidTopic):
        publish("a/b", "x", using=alias)
    with pytest.raises(errors.InvalidHeader):
        publish(topic, "x", headers={"TK-Event-Id": "mine"}, using=alias)
    with pytest.raises(errors.TooLarge):
        publish_many([tk.Record(topic, b"x"), tk.Record(topic, b"x" * 1_048_577)], using=alias)
    assert states(alias) == []


def test_ids_are_in_the_order_of_commits(broker, topic, empty_postgres, settings):
    """A transaction that publishes a key waits for one that has published it and not yet ended."""
    published, order = threading.Event(), []

    def second():
        published.wait(10)
        publish(topic, "second", key="k", using="postgres")
        order.append("second")
        connections["postgres"].close()

    thread = threading.Thread(target=second)
    thread.start()
    with transaction.atomic(using="postgres"):
        publish(topic, "first", key="k", using="postgres")
        published.set()
        thread.join(0.5)
        order.append("first")
    thread.join(10)
    events = OutboxEvent.objects.using("postgres")
    assert order == ["first", "second"]
    assert [bytes(e.value) for e in events.order_by("pk")] == [b"first", b"second"]
