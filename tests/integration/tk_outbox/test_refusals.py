"""Events that the brokers refuse hold their key, and no other."""

import time

import pytest

import tk
from tests.integration.tk_outbox.outbox import State, states, values
from tests.waiting import eventually
from tk import upkeep
from tk.access import CODE
from tk.models import OutboxEvent, OutboxShard
from tk.outbox import publish, publish_many
from tk.relay import Relay

pytestmark = [pytest.mark.kafka, pytest.mark.postgres]


@pytest.mark.parametrize("batch", [5_000, 7])
def test_a_message_too_large_for_the_topic_holds_its_key_and_no_other(
    alias, relay, make_topic, read, monkeypatch, batch
):
    monkeypatch.setattr("tk.relay.BATCH", batch)  # the next batch is read before this one is acknowledged
    monkeypatch.setattr("tk.relay.IN_FLIGHT", 2 * batch)
    topic = make_topic(max_message_bytes="1000")
    publish_many(
        [
            tk.Record(topic, b"a1", b"a"),
            tk.Record(topic, b"a2" * 2_000, b"a"),
            *(tk.Record(topic, b"a%d" % n, b"a") for n in range(3, 30)),
            *(tk.Record(topic, b"b%d" % n, b"b") for n in range(30)),
        ],
        using=alias,
    )
    relay()
    kept = [message.value() for message in read(topic) if message.key() == b"a"]
    assert kept == [b"a1"]
    first = dict.fromkeys(message.value() for message in read(topic) if message.key() == b"b")
    assert list(first) == [b"b%d" % n for n in range(30)]
    assert states(alias) == [State.SENT, State.FAILED] + [State.PENDING] * 27 + [State.SENT] * 30
    failed = OutboxEvent.objects.using(alias).get(state=State.FAILED)
    assert "large" in failed.error.lower()
    assert upkeep.resend([failed.pk], CODE, alias) == 1
    relay()
    assert OutboxEvent.objects.using(alias).get(state=State.FAILED) == failed  # no better than before
    assert upkeep.discard([failed.pk], CODE, alias) == 1
    relay()
    kept = [message.value() for message in read(topic) if message.key() == b"a"]
    assert kept == [b"a1"] + [b"a%d" % n for n in range(3, 30)]


@pytest.mark.parametrize("known", [True, False])  # whether the broker knows the producer, and what it expects of it
@pytest.mark.parametrize("stall", [0.5, 0.01])  # the suspect's own try is answered within it, or long after it
def test_nothing_overtakes_a_message_that_is_refused_by_itself(
    alias, broker, make_topic, read, settings, monkeypatch, stall, known
):
    settings.KAFKA_CLIENT = {"batch.num.messages": 1}  # so that the others of its key are not refused with it
    topic = make_topic(max_message_bytes="1000")
    made = Relay(alias)
    if known:
        publish(topic, "0", key="a", using=alias)
        eventually(lambda: (made.step(), states(alias) == [State.SENT])[1])
    monkeypatch.setattr("tk.sender.STALL_SECONDS", stall)
    wait = made._sender.wait
    made._sender.wait = lambda *given: (time.sleep(0.3), wait(*given))  # its database is slow: the client is on its own
    publish_many([tk.Record(topic, b"a" * 2_000 if n == 1 else b"%d" % n, b"a") for n in range(1, 20)], using=alias)
    made.run(once=True)
    assert states(alias) == [State.SENT] * known + [State.FAILED] + [State.PENDING] * 18
    assert values(read(topic)) == ["0"] * known


# Brokers refuse a batch whole. What is too large fails; what was refused in its company arrives.
@pytest.mark.parametrize(
    "events",
    [
        ["a", "A", "b", "C"],  # A goes when a has arrived, before b, which was refused with C
        ["a", "C", "b", "A"],  # A goes after b
    ],
)
def test_what_was_refused_in_company_is_tried_alone(alias, relay, make_topic, read, events):
    topic = make_topic(max_message_bytes="1000")
    records = [
        tk.Record(topic, name.encode() * (2_000 if name.isupper() else 1), name.lower().encode()) for name in events
    ]
    publish_many(records, using=alias)
    relay()
    assert states(alias) == [State.FAILED if name.isupper() else State.SENT for name in events]
    assert values(read(topic)) == ["a", "b"]


def test_a_relay_that_is_stopped_while_a_refusal_is_on_its_way_gives_its_shards_back(alias, broker, make_topic):
    topic = make_topic(max_message_bytes="1000")
    publish_many([tk.Record(topic, b"a" * 2_000, b"a"), tk.Record(topic, b"1", b"b")], using=alias)
    made = Relay(alias)
    made._sender.wait = lambda *_: made.stop()
    made.run()
    assert states(alias) == [State.PENDING] * 2
    assert not OutboxShard.objects.using(alias).filter(owner=made.leases.name).exists()


def test_what_failed_is_marked_before_anything_is_read_again(alias, topic, read):
    """Else it would be sent where its topic has come since, and be marked as failed all the same."""
    publish(topic, "x", key="k", using=alias)
    made = Relay(alias)
    made.leases.keep()
    made._sender.failed[OutboxEvent.objects.using(alias).get().pk] = "no such topic"
    made.run(once=True)
    assert states(alias) == [State.FAILED]
    assert read(topic) == []


def test_a_missing_topic_is_waited_for_then_fails(alias, relay, topic, read, make_topic, monkeypatch):
    monkeypatch.setattr("tk.relay.MISSING_SECONDS", 3.0)
    publish("not-there", "x", key="k", using=alias)
    publish("not-there", "y", key="k", using=alias)
    publish(topic, "z", using=alias)
    made = Relay(alias)
    eventually(lambda: (made.step(), states(alias)[2] == State.SENT)[1], 3)
    assert states(alias) == [State.PENDING, State.PENDING, State.SENT]
    made.run(once=True)
    assert states(alias) == [State.FAILED, State.PENDING, State.SENT]
