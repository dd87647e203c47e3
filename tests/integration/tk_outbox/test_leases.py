"""Several relays: each shard of the keys is one's at a time."""

import time

import pytest

import tk
from tests.integration.tk_outbox.outbox import State, running, states, values
from tests.waiting import eventually
from tk.models import OutboxShard
from tk.outbox import publish, publish_many
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
