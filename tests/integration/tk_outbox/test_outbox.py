"""From publish() in a transaction to the topic, on SQLite and PostgreSQL and the real broker."""

import os
import signal
import subprocess
import sys
import threading
import time

import pytest
from django.db import connections, transaction

import tk
from tests.waiting import eventually
from tk import errors, upkeep
from tk.access import CODE
from tk.models import OutboxEvent, OutboxRelay, OutboxShard
from tk.outbox import publish, publish_many
from tk.relay import Relay
from tklocal.kafka import Cluster

pytestmark = [pytest.mark.kafka, pytest.mark.postgres]

State = OutboxEvent.State


def states(alias):
    return list(OutboxEvent.objects.using(alias).order_by("pk").values_list("state", flat=True))


def values(messages):
    return [message.value().decode() for message in messages]


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


def test_sent_events_are_deleted_where_they_are_not_kept(alias, relay, topic, read, settings):
    settings.TK = {"OUTBOX_KEEP_SECONDS": 0}
    publish(topic, "x", using=alias)
    relay()
    assert (states(alias), len(read(topic))) == ([], 1)


def test_old_sent_events_are_pruned(alias, relay, topic, settings):
    settings.TK = {"OUTBOX_KEEP_SECONDS": 0.2}
    publish(topic, "x", using=alias)
    relay()
    assert states(alias) == [State.SENT]
    time.sleep(0.3)
    publish("no-such-topic", "kept: it was not sent", using=alias)
    Relay(alias).step()
    assert states(alias) == [State.PENDING]


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
    made._sender.wait = lambda left=0: (time.sleep(0.3), wait(left))  # its database is slow: the client is on its own
    publish_many([tk.Record(topic, b"a" * 2_000 if n == 1 else b"%d" % n, b"a") for n in range(1, 20)], using=alias)
    made.run(once=True)
    assert states(alias) == [State.SENT] * known + [State.FAILED] + [State.PENDING] * 18
    assert values(read(topic)) == ["0"] * known


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


def running(alias):
    made = Relay(alias)
    thread = threading.Thread(target=made.run, daemon=True)
    thread.start()
    return made, thread


def test_the_next_events_are_read_before_the_last_are_acknowledged(alias, broker, topic, read, monkeypatch):
    monkeypatch.setattr("tk.relay.BATCH", 5)
    monkeypatch.setattr("tk.relay.IN_FLIGHT", 10)
    publish_many([tk.Record(topic, b"%d" % n, b"%d" % n) for n in range(23)], using=alias)
    made = Relay(alias)
    made.step()
    assert len(made._sender.in_flight) == 5
    made.run(once=True)
    assert values(read(topic)) == [str(n) for n in range(23)]
    rows = OutboxEvent.objects.using(alias).order_by("pk").values_list("state", "sent_offset")
    assert list(rows) == [(State.SENT, n) for n in range(23)]


def test_two_relays_keep_the_order_of_each_key(alias, broker, make_topic, read, settings):
    settings.TK = {"OUTBOX_LEASE_SECONDS": 1.0, "OUTBOX_POLL_SECONDS": 0.02}
    topic = make_topic(partitions=4)
    relays = [running(alias)]
    for number in range(400):
        publish(topic, str(number), key=str(number % 10), using=alias)
        if number == 100:
            relays.append(running(alias))
        if number == 250:
            relays[0][0].stop()
    eventually(lambda: set(states(alias)) == {State.SENT}, 30)
    for made, thread in relays:
        made.stop()
        thread.join(10)
        assert not thread.is_alive()
    seen: dict[bytes, dict[int, None]] = {}
    for partition in range(4):
        for message in read(topic, partition):
            seen.setdefault(message.key(), {})[int(message.value())] = None
    assert len(seen) == 10
    for key, numbers in seen.items():
        assert list(numbers) == list(range(int(key), 400, 10))


def test_relays_share_the_shards_evenly(alias, broker, settings):
    settings.TK = {"OUTBOX_LEASE_SECONDS": 0.6}
    first, second = running(alias), running(alias)
    eventually(lambda: len(first[0].leases.held) == len(second[0].leases.held) == 32, 10)
    assert not set(first[0].leases.held) & set(second[0].leases.held)
    first[0].stop()
    first[1].join(10)
    eventually(lambda: len(second[0].leases.held) == 64, 10)
    second[0].stop()
    second[1].join(10)


def test_a_stale_relay_marks_nothing(alias, broker, topic, read):
    publish(topic, "x", using=alias)
    stale = Relay(alias)
    stale._sender.wait = lambda _: OutboxShard.objects.using(alias).update(owner="another", leased_until=None)
    stale.step()
    while stale._sender.in_flight:
        stale._sender._poll(0.1)
    stale._mark()
    assert states(alias) == [State.PENDING]
    stale.leases.release()
    Relay(alias).run(once=True)
    assert states(alias) == [State.SENT]
    assert len({message.headers()[0] for message in read(topic)}) == 1


def test_a_relay_whose_leases_ended_while_it_read_sends_nothing(alias, broker, topic, read, settings):
    settings.TK = {"OUTBOX_LEASE_SECONDS": 0.5}
    publish_many([tk.Record(topic, b"%d" % n, b"k") for n in range(3)], using=alias)
    slow = Relay(alias)
    pending = slow._store.pending

    def slowly(*given):
        events = pending(*given)
        time.sleep(0.6)
        Relay(alias).run(once=True)  # takes the shards over
        return events

    slow._store.pending = slowly
    slow.step()
    assert values(read(topic)) == ["0", "1", "2"]
    assert states(alias) == [State.SENT] * 3
    slow.leases.release()


KILLED = """
import os, signal, sys, time
import django
django.setup()
from django.db import connections
import dj_database_url
from confluent_kafka import Consumer, TopicPartition
alias, where, broker, topic, step, batch = sys.argv[1:]
if alias != "default":
    given = dj_database_url.parse(where)
    connections.databases["outbox"] = {**connections.databases["default"], **given, "OPTIONS": {}}
else:
    connections.databases["default"]["NAME"] = where
from django.conf import settings
settings.KAFKA_BROKER_URL = broker
from tk import relay
from tk.sender import Sender
from tk.store import Store

def die():
    os.kill(os.getpid(), signal.SIGKILL)

def die_when_it_is_there(sender, left):
    consumer = Consumer({"bootstrap.servers": broker, "group.id": "unused"})
    while not consumer.get_watermark_offsets(TopicPartition(topic, 0), timeout=10)[1]:
        time.sleep(0.02)  # nobody takes the acknowledgements
    time.sleep(0.2)
    die()

mark = Store.mark
relay.BATCH = int(batch)
if step == "read":
    relay.Relay._send = lambda *_: die()
elif step == "sent":
    Sender.wait = die_when_it_is_there
elif step == "acknowledged":
    Store.mark = lambda *_: (time.sleep(0.3), die())  # what else is on its way has arrived
else:
    Store.mark = lambda *arguments: (mark(*arguments), time.sleep(0.3), die())
relay.Relay(alias).run()
"""


SQLITE = pytest.param("default", "acknowledged", 5_000, marks=pytest.mark.django_db(transaction=True))


@pytest.mark.parametrize(
    ("alias", "step", "batch"),
    [
        SQLITE,
        *[("outbox", step, 5_000) for step in ("read", "sent", "acknowledged", "marked")],
        *[("outbox", step, 10) for step in ("acknowledged", "marked")],  # on the other thread, while more is sent
    ],
    indirect=["alias"],
)
def test_killed_at_any_point_it_sends_all_that_committed(alias, broker, topic, read, step, batch):
    """kill -9 after that step; what is repeated has the same event id."""
    records = [tk.Record(topic, b"x", b"%d" % n) for n in range(50)]
    event_ids = [str(event_id) for event_id in publish_many(records, using=alias)]
    given = connections[alias].settings_dict
    where = f"postgres://postgres@127.0.0.1:{given['PORT']}/outbox" if alias == "outbox" else str(given["NAME"])
    child = subprocess.run(
        [sys.executable, "-c", KILLED, alias, where, broker, topic, step, str(batch)],
        env={**os.environ, "DJANGO_SETTINGS_MODULE": "tutorialkafka.settings_test"},
        timeout=60,
        check=False,
    )
    assert child.returncode == -signal.SIGKILL
    before, marked = ids(read(topic)), states(alias).count(State.SENT)
    assert before == event_ids[: len(before)]
    assert len(before) >= marked
    assert (len(before) > 0, marked > 0) == (step != "read", step == "marked")
    OutboxShard.objects.using(alias).update(leased_until=None)  # the dead relay's time is over
    OutboxRelay.objects.using(alias).all().delete()
    Relay(alias).run(once=True)
    assert set(states(alias)) == {State.SENT}
    assert ids(read(topic)) == before + event_ids[marked:]


def ids(messages):
    return [message.headers()[0][1].decode() for message in messages]


def test_a_broker_that_is_down_and_comes_back(alias, settings, tmp_path, make_topic):
    settings.TK = {"OUTBOX_POLL_SECONDS": 0.02}
    with Cluster(tmp_path, port=0) as cluster:
        settings.KAFKA_BROKER_URL = cluster.bootstrap
        made, thread = running(alias)
        publish("sample-topic", "0", key="k", using=alias)
        eventually(lambda: states(alias) == [State.SENT], 20)
        cluster.kill()
        for number in range(1, 40):
            publish("sample-topic", str(number), key="k", using=alias)
            time.sleep(0.1)
        assert State.PENDING in states(alias)
        assert thread.is_alive()
        cluster.restart()
        cluster.wait()
        eventually(lambda: set(states(alias)) == {State.SENT}, 40)
        rows = OutboxEvent.objects.using(alias).order_by("pk").values_list("sent_offset", flat=True)
        assert list(rows) == sorted(rows)
        assert len(rows) == 40
        made.stop()
        thread.join(10)


def test_notify_wakes_the_relay(broker, topic, postgres_alias, settings):
    settings.TK = {"OUTBOX_POLL_SECONDS": 5.0}
    made, thread = running("outbox")
    publish(topic, "first", using="outbox")
    events = OutboxEvent.objects.using("outbox")
    eventually(lambda: not events.filter(state=State.PENDING).exists(), 20)
    time.sleep(0.5)  # it waits now
    began = time.monotonic()
    publish(topic, "second", using="outbox")
    eventually(lambda: not events.filter(state=State.PENDING).exists(), 20)
    assert time.monotonic() - began < 1
    made.stop()
    thread.join(10)


def test_ids_are_in_the_order_of_commits(broker, topic, postgres_alias, settings):
    """A transaction that publishes a key waits for one that has published it and not yet ended."""
    published, order = threading.Event(), []

    def second():
        published.wait(10)
        publish(topic, "second", key="k", using="outbox")
        order.append("second")
        connections["outbox"].close()

    thread = threading.Thread(target=second)
    thread.start()
    with transaction.atomic(using="outbox"):
        publish(topic, "first", key="k", using="outbox")
        published.set()
        thread.join(0.5)
        order.append("first")
    thread.join(10)
    events = OutboxEvent.objects.using("outbox")
    assert order == ["first", "second"]
    assert [bytes(e.value) for e in events.order_by("pk")] == [b"first", b"second"]


def test_the_command_ends_at_sigterm(broker, topic, transactional_db):
    child = subprocess.Popen(
        [sys.executable, "manage.py", "relay"],
        env={**os.environ, "DJANGO_SETTINGS_MODULE": "tutorialkafka.settings_test", "KAFKA_BROKER_URL": broker},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    assert b"Relaying" in child.stdout.readline()
    child.send_signal(signal.SIGTERM)
    said, _ = child.communicate(timeout=15)
    assert (child.returncode, b"Traceback" in said) == (0, False)
