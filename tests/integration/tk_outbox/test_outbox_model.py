"""The outbox against a model: any sequence of publishing, rolling back, relaying, dying, failing and settling."""

import uuid
from typing import ClassVar

import pytest
from django.db import transaction
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test

from tk import upkeep
from tk.access import CODE
from tk.models import OutboxEvent, OutboxRelay, OutboxShard
from tk.outbox import publish
from tk.relay import Relay
from tk.upkeep import State

pytestmark = [pytest.mark.kafka, pytest.mark.postgres]

KEYS = st.sampled_from(["a", "b", "c"])
LARGE = "x" * 2_000  # more than the topic takes


class Outbox(RuleBasedStateMachine):
    """model: by key, the numbers that committed and were not discarded, in order."""

    alias: ClassVar[str]
    topic: ClassVar[str]
    read: ClassVar

    @initialize()
    def begin(self):
        self._forget_relays()
        OutboxEvent.objects.using(self.alias).all().delete()
        self.first = len(self.read(self.topic))
        self.committed: dict[str, list[tuple[str, bool]]] = {}

    def _forget_relays(self):
        """A dead relay's leases are over."""
        OutboxShard.objects.using(self.alias).update(owner="", leased_until=None)
        OutboxRelay.objects.using(self.alias).all().delete()

    def _publish(self, key, large):
        value = uuid.uuid4().hex
        publish(self.topic, value + LARGE * large, key=key, using=self.alias)
        return value, large

    @rule(keys=st.lists(KEYS, min_size=1, max_size=4), large=st.booleans())
    def commit(self, keys, large):
        with transaction.atomic(using=self.alias):
            for number, key in enumerate(keys):
                self.committed.setdefault(key, []).append(self._publish(key, large and number == 0))

    @rule(keys=st.lists(KEYS, min_size=1, max_size=3))
    def roll_back(self, keys):
        with transaction.atomic(using=self.alias):
            for key in keys:
                self._publish(key, large=False)
            transaction.set_rollback(True, using=self.alias)

    @rule()
    def relay(self):
        Relay(self.alias).run(once=True)
        sent = self._check()
        for key, events in self.committed.items():
            mine = {value for value, _ in events}
            assert [v for v in sent if v in mine] == [v for v, _ in events[: self._first_large(events)]], key

    @rule()
    def die_before_the_mark(self):
        """kill -9 between acknowledgement and mark: nothing is marked, nothing released."""
        relay = Relay(self.alias)
        relay._mark = lambda: None
        relay.step()
        relay._await()
        relay._producer = None
        self._forget_relays()
        self._check()

    @rule()
    def resend(self):
        chosen = list(upkeep.failed(self.alias).values_list("pk", flat=True))
        if chosen:
            assert upkeep.resend(chosen, CODE, self.alias) == len(chosen)

    @rule()
    def discard(self):
        failed = list(upkeep.failed(self.alias))
        if failed:
            upkeep.discard([event.pk for event in failed], CODE, self.alias)
            gone = {bytes(event.value)[:32].decode() for event in failed}
            for key, events in self.committed.items():
                self.committed[key] = [event for event in events if event[0] not in gone]

    def _check(self):
        """What arrived was committed, and in order."""
        sent = self._sent()
        assert set(sent) <= {value for events in self.committed.values() for value, large in events if not large}
        for events in self.committed.values():
            known = {value: number for number, (value, _) in enumerate(events)}
            numbers = [known[value] for value in sent if value in known]
            assert numbers == sorted(numbers)
        return sent

    def _sent(self):
        """Values in the topic since the start, each once, in the order of their first arrival."""
        messages = self.read(self.topic)[self.first :]
        ids = dict.fromkeys((dict(m.headers())["tk-event-id"], m.value().decode()) for m in messages)
        assert len({event_id for event_id, _ in ids}) == len(ids)  # a repeat has the same id
        return [value for _, value in ids]

    @staticmethod
    def _first_large(events):
        return next((n for n, (_, large) in enumerate(events) if large), len(events))

    def teardown(self):
        """When every refused event is discarded, everything else arrives."""
        if not hasattr(self, "committed"):
            return
        while any(large for events in self.committed.values() for _, large in events):
            Relay(self.alias).run(once=True)
            self.discard()
        Relay(self.alias).run(once=True)
        sent = set(self._check())
        assert sent == {value for events in self.committed.values() for value, _ in events}
        states = set(OutboxEvent.objects.using(self.alias).values_list("state", flat=True))
        assert states <= {State.SENT, State.DISCARDED}


def test_the_outbox_does_what_its_model_does(alias, broker, make_topic, read):
    machine = type(
        "Machine",
        (Outbox,),
        {"alias": alias, "topic": make_topic(max_message_bytes="1000"), "read": staticmethod(read)},
    )
    checks = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much]
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=8,
            stateful_step_count=10,
            deadline=None,
            phases=[Phase.generate],  # shrinking would take minutes
            suppress_health_check=checks,
            database=None,
        ),
    )
