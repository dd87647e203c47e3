"""Several relays: each shard of the keys is one's at a time."""

import threading
import time
import uuid

import pytest
from django.db import connections
from django.db.models import F

import tk
from tests.integration.tk_outbox.outbox import State, running, states, values
from tests.waiting import eventually
from tk.leases import Leases
from tk.models import OutboxEvent, OutboxRelay, OutboxShard
from tk.outbox import SHARDS, lane, publish, publish_many
from tk.relay import Relay

pytestmark = [pytest.mark.kafka, pytest.mark.postgres]


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
    stale._sender.wait = lambda *_: OutboxShard.objects.using(alias).update(owner="another", leased_until=None)
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


def test_what_was_read_ahead_of_shards_that_were_given_back_is_not_sent(alias, broker, topic, read, monkeypatch):
    monkeypatch.setattr("tk.relay.BATCH", 2)
    records = [tk.Record(topic, b"%d" % n, b"%d" % n) for n in range(200)]
    given_back = [each for each in records if lane(each, uuid.uuid4()) % SHARDS >= SHARDS // 2][:6]
    publish_many(given_back, using=alias)
    made, other = Relay(alias), Relay(alias)
    made.step()  # two are on their way, two are read ahead
    eventually(lambda: (made._sender._poll(0.1), not made._sender.in_flight)[1], 10)
    made._mark()
    other.leases.keep()
    made.leases._renew_at = other.leases._renew_at = 0.0
    made.step()
    other.run(once=True)
    made.run(once=True)
    assert sorted(values(read(topic))) == sorted(each.value.decode() for each in given_back)


def end_leases(alias):
    OutboxShard.objects.using(alias).update(leased_until=None)
    OutboxRelay.objects.using(alias).all().delete()


def test_a_failure_that_is_marked_late_undoes_nothing_that_another_relay_has_sent(alias, broker, topic, read):
    publish(topic, "x", key="k", using=alias)
    late, other = Relay(alias), Relay(alias)
    late._look, late._mark = lambda *_: ("There is no such topic.", False), lambda: None
    late.step()
    assert late._sender.failed
    del late._look, late._mark
    end_leases(alias)
    other._mark = lambda: None  # it dies before that
    eventually(lambda: (other.step(), other._sender.acknowledged)[1], 10)
    late._store.mark([], late._sender.failed)
    assert states(alias) == [State.PENDING]  # its shards are another's
    OutboxShard.objects.using(alias).update(owner=late.leases.name, generation=F("generation") + 1)
    late._store.mark([], late._sender.failed)
    assert states(alias) == [State.PENDING]  # they are its own again, which it has not heard
    end_leases(alias)
    late.leases._renew_at = 0.0
    late.run(once=True)
    assert states(alias) == [State.SENT]
    assert len({message.headers()[0] for message in read(topic)}) == 1


def test_nobody_takes_a_shard_whose_events_are_being_marked_as_failed(broker, topic, empty_postgres):
    publish(topic, "x", key="k", using="postgres")
    slow, other = Relay("postgres"), Leases("postgres")
    slow.leases.keep()
    event = OutboxEvent.objects.using("postgres").get()
    end_leases("postgres")

    def take():
        other.keep()
        connections["postgres"].close()

    def meanwhile(execute, sql, *given):
        if sql.startswith("UPDATE"):
            thread = threading.Thread(target=take)
            thread.start()
            thread.join(10)
        return execute(sql, *given)

    with connections["postgres"].execute_wrapper(meanwhile):
        slow._store.mark([], {event.pk: "It is refused."})
    assert states("postgres") == [State.FAILED]
    assert event.shard not in other.held
