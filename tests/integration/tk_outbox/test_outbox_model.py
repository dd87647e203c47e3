"""The outbox against a model: a random walk of publishing, rolling back, relaying, dying, failing and settling."""

import random
import uuid

import pytest
from confluent_kafka import Consumer, TopicPartition
from django.db import transaction

from tk import upkeep
from tk.access import CODE
from tk.errors import NotSent
from tk.models import OutboxEvent, OutboxRelay, OutboxShard
from tk.outbox import publish
from tk.relay import Relay
from tk.upkeep import State

pytestmark = [pytest.mark.kafka, pytest.mark.postgres]

SEED = 55208  # a walk with all of it in it: what was taken out was seen to fail it
LARGE = "x" * 6_000  # more than the topic takes
# What the walk does, and how often. The last three settle the failed events.
STEPS = {
    "commit": 3,
    "commit_one_too_large": 2,
    "roll_back": 1,
    "step": 5,
    "relay_all": 1,
    "die_before_the_mark": 1,
    "resend": 1,
    "mend_and_resend": 2,
    "discard": 1,
}


class Walk:
    """committed: the model: by key, what committed and was not discarded, in order: each with whether it is too large to
    be sent. repeats: whether anything may be in the topic twice."""

    def __init__(self, seed, alias, topic, read):
        self.random = random.Random(seed)
        self.alias, self.topic, self.read = alias, topic, read
        self.committed: dict[str, dict[str, bool]] = {"a": {}, "b": {}}
        self.repeats = False
        self.relay = None
        self._other_relay()

    def go(self, steps):
        chosen = self.random.choices(list(STEPS), list(STEPS.values()), k=steps)
        for _ in range(4):
            self.commit()
        self.relay_all()  # while nothing may be there twice
        for name in chosen:
            getattr(self, name)()
            self._check()

    def _other_relay(self):
        """The last one is dead, and its leases are over."""
        OutboxShard.objects.using(self.alias).update(owner="", leased_until=None)
        OutboxRelay.objects.using(self.alias).all().delete()
        if self.relay is not None:
            self.relay._ahead.close()
        self.relay = Relay(self.alias)

    def _publish(self, key, *, large=False):
        value = uuid.uuid4().hex
        publish(self.topic, value + LARGE * large, key=key, using=self.alias)
        return value

    def _keys(self):
        return self.random.choices("ab", k=self.random.randint(2, 6))

    def commit(self):
        with transaction.atomic(using=self.alias):
            for key in self._keys():
                self.committed[key][self._publish(key)] = False

    def commit_one_too_large(self):
        keys = self._keys()
        number = self.random.randrange(len(keys))
        with transaction.atomic(using=self.alias):
            for n, key in enumerate(keys):
                self.committed[key][self._publish(key, large=n == number)] = n == number
        self.repeats = True  # what was refused in its company goes again

    def roll_back(self):
        with transaction.atomic(using=self.alias):
            for key in self._keys():
                self._publish(key)
            transaction.set_rollback(True, using=self.alias)

    def relay_all(self):
        while self.step() or self.relay._sender.in_flight:
            self._check()
        sent = self._check()
        for events in self.committed.values():
            assert [value for value in sent if value in events] == self._sendable(events)

    def step(self):
        try:
            return self.relay.step()
        except NotSent:
            return True

    def die_before_the_mark(self):
        """kill -9 between acknowledgement and mark: nothing is marked, nothing released."""
        self.relay._mark = lambda: None
        self.step()
        self.relay._sender.wait()
        self._other_relay()
        self.repeats = True

    def resend(self):
        if chosen := list(upkeep.failed(self.alias).values_list("pk", flat=True)):
            assert upkeep.resend(chosen, CODE, self.alias) == len(chosen)

    def mend_and_resend(self):
        for event in upkeep.failed(self.alias):
            value = bytes(event.value)[:32]
            OutboxEvent.objects.using(self.alias).filter(pk=event.pk).update(value=value)
            self.committed[bytes(event.key).decode()][value.decode()] = False
        self.resend()

    def discard(self):
        failed = list(upkeep.failed(self.alias))
        if failed:
            upkeep.discard([event.pk for event in failed], CODE, self.alias)
        for event in failed:
            del self.committed[bytes(event.key).decode()][bytes(event.value)[:32].decode()]

    def _check(self):
        """Of each key, what arrived is what committed first, up to the first that cannot be sent; gives all of it."""
        messages = self.read()
        ids = dict.fromkeys((dict(m.headers())["tk-event-id"], m.value().decode()) for m in messages)
        sent = [value for _, value in ids]
        assert len({event_id for event_id, _ in ids}) == len(set(sent)) == len(ids)  # a repeat has the same id
        assert self.repeats or len(messages) == len(ids)
        assert set(sent) <= {value for events in self.committed.values() for value in events}
        for events in self.committed.values():
            mine = [value for value in sent if value in events]
            assert mine == self._sendable(events)[: len(mine)]
        return sent

    @staticmethod
    def _sendable(events):
        values = list(events)
        return values[: next((n for n, value in enumerate(values) if events[value]), len(values))]

    def end(self):
        """When every refused event is discarded, everything else arrives."""
        self.relay_all()
        while upkeep.failed(self.alias).exists():
            self.discard()
            self.relay_all()
        states = set(OutboxEvent.objects.using(self.alias).values_list("state", flat=True))
        assert states <= {State.SENT, State.DISCARDED}
        self.relay._end()


@pytest.fixture
def follow(broker):
    """``follow(topic)`` gives a function that gives everything in the topic's partition; it reads on each time."""
    consumer = Consumer({"bootstrap.servers": broker, "group.id": "unused", "enable.auto.commit": False})

    def begin(topic):
        found = []
        consumer.assign([TopicPartition(topic, 0, 0)])

        def read():
            _, end = consumer.get_watermark_offsets(TopicPartition(topic, 0), timeout=10)
            while len(found) < end:
                found.extend(consumer.consume(end - len(found), 5))
            return found

        return read

    yield begin
    consumer.close()


# On SQLite the half of the walk: each refusal has a producer made anew, which takes time.
@pytest.mark.parametrize(
    ("alias", "steps"),
    [pytest.param("default", 7, marks=pytest.mark.django_db(transaction=True)), ("postgres", 14)],
    indirect=["alias"],
)
def test_the_outbox_does_what_its_model_does(alias, steps, make_topic, follow, monkeypatch):
    monkeypatch.setattr("tk.relay.BATCH", 4)  # the next events are read before the last are acknowledged
    monkeypatch.setattr("tk.relay.IN_FLIGHT", 8)
    monkeypatch.setattr("tk.sender.STALL_SECONDS", 0.1)
    topic = make_topic(max_message_bytes="5000")
    walk = Walk(SEED, alias, topic, follow(topic))
    walk.go(steps)
    walk.end()
