"""A model of the outbox: hypothesis commits, rolls back, relays, hangs, kills, wakes, refuses and settles as it likes."""

import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from itertools import count, groupby
from unittest.mock import patch

from confluent_kafka import Message
from django.db import transaction
from django.test import override_settings
from django.utils import timezone
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

import tk
from tests.integration.tk_outbox.outbox import State
from tk import sender, upkeep
from tk.access import CODE
from tk.errors import NotSent
from tk.models import OutboxEvent, OutboxRelay, OutboxShard
from tk.outbox import publish_many
from tk.relay import Relay
from tk.store import Sent

LARGE = b"x" * 6_000  # more than the topic takes
KEYS = [b"a", b"b", None]  # of two relays' shards; without a key it goes to a partition that is named
KINDS = ["sound"] * 6 + ["undone", "large"]  # undone: with its savepoint
CHOSEN = st.lists(st.tuples(st.sampled_from(KEYS), st.sampled_from(KINDS)), min_size=1, max_size=10)
WHICH = st.integers(0, 2)  # of the relays, modulo their number
RUNS = count()


class OutboxMachine(RuleBasedStateMachine):
    """A subclass gives alias, topic and read: everything in the topic's one partition.

    committed: the model: by key, what committed and was not discarded, in order: each with whether it is too large to be
    sent. discarded: what was. old: what may have been deleted since it was sent. repeated: what may be in the topic twice.
    hung: relays that hang in their marks, with these.
    """

    alias: str
    topic: str
    read: Callable[[], list[Message]]

    def __init__(self) -> None:
        super().__init__()
        self.run, self.numbers, self.start = b"%d-" % next(RUNS), count(), len(self.read())
        self.committed: dict[bytes | None, dict[bytes, bool]] = {key: {} for key in KEYS}
        self.discarded: set[bytes] = set()
        self.old: set[bytes] = set()
        self.repeated: set[bytes] = set()
        self.relays: list[Relay] = []
        self.hung: list[tuple[Relay, list[tuple[list[Sent], dict[int, str]]]]] = []

    @initialize(
        chosen=CHOSEN,
        kept=st.booleans(),
        refuses=st.booleans(),
        singly=st.booleans(),
        stall=st.sampled_from([0.1, 0.002]),
    )
    def begin(
        self, chosen: list[tuple[bytes | None, str]], *, kept: bool, refuses: bool, singly: bool, stall: float
    ) -> None:
        """kept: whether sent rows are. refuses: whether the topic refuses anything: what is refused takes its company with
        it, and anything may be there twice. singly: whether it goes without company: what comes after it may be taken.
        stall: seconds that an acknowledgement is waited for: enough, or hardly ever so.
        """
        self.kept, self.refuses = kept, refuses
        sender.STALL_SECONDS = stall
        # Leases end, and relays share the shards, when a rule says so.
        outbox = {"OUTBOX_KEEP_SECONDS": 86_400 * kept, "OUTBOX_LEASE_SECONDS": 3_600.0}
        client = {"KAFKA_CLIENT": {"batch.num.messages": 1}} if singly else {}
        self.settings = override_settings(TK=outbox, **client)
        self.settings.enable()
        self.transact(chosen, commits=True, then=None)

    @property
    def events(self):
        return OutboxEvent.objects.using(self.alias)

    # What applications do.

    @rule(chosen=CHOSEN, commits=st.sampled_from([True, True, True, False]), then=st.none() | WHICH)
    def transact(self, chosen: list[tuple[bytes | None, str]], then: int | None, *, commits: bool) -> None:
        """then: the relay that makes its next step after it."""
        made = [(key, kind, b"%s%d|" % (self.run, next(self.numbers))) for key, kind in chosen]
        large = {value for _, kind, value in made if kind == "large" and self.refuses}
        with transaction.atomic(using=self.alias):
            for undone, group in groupby(made, lambda each: each[1] == "undone"):
                with transaction.atomic(using=self.alias):
                    records = [
                        tk.Record(self.topic, value + LARGE * (value in large), key, partition=None if key else 0)
                        for key, _, value in group
                    ]
                    publish_many(records, using=self.alias)
                    transaction.set_rollback(undone, using=self.alias)
            transaction.set_rollback(not commits, using=self.alias)
        if commits:
            for key, kind, value in made:
                if kind != "undone":
                    self.committed[key][value] = value in large
        if then is not None:
            self.step(then)

    # What relays do, and what is done to them.

    @rule(which=WHICH)
    def step(self, which: int) -> None:
        self._step(self._relay(which))
        self.check()

    @rule()
    def share(self) -> None:
        """One relay more, at most two; each gives back and takes until their shares are equal."""
        if len(self.relays) < 2:
            self.relays.append(Relay(self.alias))
        self._renew()
        self.check()

    @rule(which=WHICH, dies=st.booleans())
    def hang(self, which: int, *, dies: bool) -> None:
        """In its mark, or between acknowledgement and mark; or it is killed there."""
        relay, marks = self._relay(which), []
        relay._store.mark = lambda sent, failed: marks.append((list(sent), dict(failed)))
        self._step(relay)
        relay._sender.wait()
        self.relays.remove(relay)
        self.repeated |= self._unmarked(relay).union(_name(event.value) for sent, _ in marks for event, _, _ in sent)
        if dies:
            self._kill(relay)
        else:
            self.hung.append((relay, marks))
        self.check()

    @rule()
    def end_leases(self) -> None:
        """Of those that hang or are dead; the others take over."""
        self._end_leases([relay.leases.name for relay in self.relays])
        self._renew()
        self.check()

    @precondition(lambda self: self.hung)
    @rule(which=WHICH)
    def wake(self, which: int) -> None:
        """It marks what is perhaps no longer its own to mark, and goes on."""
        relay, marks = self.hung.pop(which % len(self.hung))
        del relay._store.mark
        for sent, failed in marks:
            relay._store.mark(sent, failed)
        self._be_late(relay)
        self.relays.append(relay)
        self.check()

    @rule(which=WHICH)
    def hang_while_it_reads(self, which: int) -> None:
        """Another relay takes over meanwhile: what was read is not sent."""
        relay = self._relay(which)
        read = relay._next

        def slowly():
            events = read()
            self.repeated |= self._unmarked(relay)
            self._end_leases([])
            self._be_late(relay)
            if self.relays == [relay]:
                self.relays.append(Relay(self.alias))
            other = next(each for each in self.relays if each is not relay)
            other.leases._renew_at = 0.0
            self._step(other)
            return events

        with patch.object(relay, "_next", slowly):
            self._step(relay)
        self.check()

    @rule(which=WHICH)
    def stop(self, which: int) -> None:
        """SIGTERM: what has arrived is marked, and the shards are free."""
        relay = self._relay(which)
        self.relays.remove(relay)
        relay._end()
        assert not OutboxShard.objects.using(self.alias).filter(owner=relay.leases.name).exists()
        self.check()

    @rule(which=WHICH)
    def prune(self, which: int) -> None:
        """Years later."""
        relay, sent = self._relay(which), self.events.filter(state=State.SENT)
        self.old |= {_name(value) for value in sent.values_list("value", flat=True)}
        sent.update(sent_at=timezone.now() - timedelta(days=365))
        relay._prune_at = 0.0
        self._step(relay)
        if relay.leases.held:
            assert not sent.filter(sent_at__lt=timezone.now() - timedelta(days=1)).exists()
        self.check()

    @rule()
    def relay_all(self) -> None:
        self._relay(0)
        self.end_leases()
        deadline, busy = time.monotonic() + 60, True
        while busy:
            assert time.monotonic() < deadline, "it comes to no end"
            stepped = [self._step(relay) or bool(relay._sender.in_flight) for relay in self.relays]
            busy = any(stepped)
        self.check(whole=True)

    # What operators do with failed events.

    @rule(how=st.sampled_from(["_resend", "_mend_and_resend", "_discard"]))
    def settle(self, how: str) -> None:
        getattr(self, how)()

    def _resend(self) -> None:
        if chosen := list(upkeep.failed(self.alias).values_list("pk", flat=True)):
            assert upkeep.resend(chosen, CODE, self.alias) == len(chosen)

    def _mend_and_resend(self) -> None:
        for event in upkeep.failed(self.alias):
            value = _name(event.value)
            self.events.filter(pk=event.pk).update(value=value)
            self.committed[event.key and bytes(event.key)][value] = False
        self._resend()

    def _discard(self) -> None:
        failed = list(upkeep.failed(self.alias))
        if failed:
            assert upkeep.discard([event.pk for event in failed], CODE, self.alias) == len(failed)
        for event in failed:
            del self.committed[event.key and bytes(event.key)][_name(event.value)]
            self.discarded.add(_name(event.value))

    # What must be true.

    def check(self, *, whole: bool = False) -> None:
        """Of each key, what arrived is what committed first, up to the first that cannot be sent; whole: all of it."""
        messages = [(m, _name(m.value())) for m in self.read()[self.start :] if m.value().startswith(self.run)]
        arrived: dict[bytes, bytes] = {}
        for message, value in messages:
            event_id = dict(message.headers())["tk-event-id"]
            assert arrived.setdefault(value, event_id) == event_id  # a repeat has the same id
            assert value in self.committed[message.key()]
        assert len(set(arrived.values())) == len(arrived)
        twice = {value for value, times in Counter(value for _, value in messages).items() if times > 1}
        assert self.refuses or twice <= self.repeated
        for events in self.committed.values():
            sendable = self._sendable(events)
            mine = [value for value in arrived if value in events]
            assert mine == (sendable if whole else sendable[: len(mine)])
        self._check_rows(arrived, whole=whole)

    def _check_rows(self, arrived: Mapping[bytes, bytes], *, whole: bool) -> None:
        rows = {_name(value): state for value, state in self.events.values_list("value", "state")}
        assert {value for value, state in rows.items() if state == State.DISCARDED} == self.discarded
        assert rows.keys() <= self.discarded.union(*self.committed.values())
        for events in self.committed.values():
            sendable = len(self._sendable(events))
            for number, (value, large) in enumerate(events.items()):
                state = rows.get(value)
                if state == State.SENT or state is None:
                    assert value in arrived
                    assert self.kept if state == State.SENT else not self.kept or value in self.old
                elif whole:
                    assert (number >= sendable, state == State.FAILED) == (True, number == sendable)
                else:
                    assert state == State.PENDING or large

    @staticmethod
    def _sendable(events: Mapping[bytes, bool]) -> list[bytes]:
        values = list(events)
        return values[: next((n for n, value in enumerate(values) if events[value]), len(values))]

    def teardown(self) -> None:
        try:
            if sys.exception() is None:  # when every refused event is discarded, everything else arrives
                self.relay_all()
                while upkeep.failed(self.alias).exists():
                    self._discard()
                    self.relay_all()
        finally:
            for relay in [*self.relays, *(relay for relay, _ in self.hung)]:
                self._kill(relay)
            for model in (OutboxEvent, OutboxShard, OutboxRelay):
                model.objects.using(self.alias).all().delete()
            if hasattr(self, "settings"):
                self.settings.disable()

    # Relays.

    def _relay(self, which: int) -> Relay:
        if not self.relays:
            self.relays.append(Relay(self.alias))
        return self.relays[which % len(self.relays)]

    def _step(self, relay: Relay) -> bool:
        try:
            return relay.step()
        except NotSent:
            return True

    def _renew(self) -> None:
        for relay in self.relays * 2:
            self.repeated |= self._unmarked(relay)
            relay.leases._renew_at = 0.0
            self._step(relay)

    @staticmethod
    def _unmarked(relay: Relay) -> set[bytes]:
        """What another relay would send again."""
        acknowledged = [event for event, _, _ in relay._sender.acknowledged]
        return {_name(event.value) for event in [*relay._sender.in_flight.values(), *acknowledged]}

    def _end_leases(self, but: Sequence[str]) -> None:
        OutboxShard.objects.using(self.alias).exclude(owner__in=but).update(leased_until=None)
        OutboxRelay.objects.using(self.alias).exclude(name__in=but).delete()

    @staticmethod
    def _be_late(relay: Relay) -> None:
        relay.leases._valid_until = relay.leases._renew_at = 0.0

    @staticmethod
    def _kill(relay: Relay) -> None:
        relay._ahead.close()
        relay._sender.drop()


def _name(value: bytes | memoryview) -> bytes:
    """A value without what makes it too large."""
    return bytes(value).partition(b"|")[0] + b"|"
