"""A handler's sink against a model: the effect of each message once and in order, or one dead letter, whatever happens.

Processes end before, in and after the handler's calls, other owners take over between two transactions, messages fail once,
for ever, or are rejected, events come twice, letters are handled again.
"""

import sys
import uuid
from collections import Counter
from collections.abc import Sequence
from typing import Any

import pytest
from confluent_kafka import Message
from django.contrib.auth.models import Group as Role
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import initialize, invariant, rule, run_state_machine_as_test

from tests.integration.sink_model import EVENTS, OWNERS, PLACES, SETTINGS, Crash, Machine
from tests.integration.transacting import Clock, sink_of
from tests.sink_contract import message
from tk.access import CODE
from tk.record import EVENT_ID_HEADER
from tkcons import deadletters
from tkcons.errors import Reject, RetryLater, StaleOwner
from tkcons.models import DeadLetter, Gap, Position, SeenEvent
from tkcons.sinks.base import Batch, Claim, Place, Sink

pytestmark = pytest.mark.timeout(600)

TRIES = 2
KINDS = ["sound"] * 6 + ["slow", "fails once", "poison", "rejected"]  # slow: it fills a slice
STEPS = st.lists(
    st.tuples(st.integers(1, 3), st.sampled_from([None, None, None, *EVENTS]), st.sampled_from(KINDS)), max_size=6
)
Steps = Sequence[tuple[int, str | None, str]]  # gap before the offset, event id, kind
# What happens at a call of the handler, or at a transaction.
FAULTS = [None] * 4 + ["before the call", "in the call", "before the transaction", "after the commit", "another owner"]
HALF = settings(SETTINGS, max_examples=max(1, SETTINGS.max_examples // 2))  # a course takes twice as long as a sink's
At = tuple[Place, int]


class HandlerMachine(Machine):
    """logs: by place, what Kafka has: offset to event and kind. bad: failed, or perhaps begun and not ended, by message.

    letters: what may be listed. calls: of the handler. fault, at: what happens next, after so many calls or transactions.
    """

    alias = "default"
    takes_back = False
    clock: Clock

    @initialize(start=st.integers(0, 5), batch=st.sampled_from([None, 3]), steps=st.tuples(STEPS, STEPS, STEPS))
    def begin(self, start: int, batch: int | None, steps: Sequence[Steps]) -> None:
        self.batch = batch
        self.logs: dict[Place, dict[int, tuple[str | None, str]]] = {place: {} for place in PLACES}
        self.bad: Counter[At] = Counter()
        self.letters: set[At] = set()
        self.calls, self.fault, self.at = 0, None, 0
        super().begin(start)
        for place, each in zip(PLACES, steps, strict=True):
            self._append(place, each)

    # The handler.

    def handle(self, given: Any) -> None:
        for received in given if self.batch else [given]:
            place = Place(received.topic, (received.key or b"").decode(), received.partition)
            where, kind = (place, received.offset), self.logs[place][received.offset][1]
            self.calls += 1
            if self._comes("before the call"):
                self.bad[where] += 1
                raise Crash
            Role.objects.using(self.alias).create(name=" ".join(map(str, [*place, received.offset, uuid.uuid4()])))
            if self._comes("in the call"):
                self.bad[where] += 1
                raise Crash
            if kind == "slow":
                self.clock.now += 0.6
            elif kind == "rejected":
                self.bad[where] += 1
                raise Reject(kind, received)
            elif kind == "poison" or (kind == "fails once" and not self.bad[where]):
                self.bad[where] += 1
                raise ValueError(kind)

    def _comes(self, *faults: str) -> bool:
        """Whether one of these happens now."""
        if self.fault not in faults:
            return False
        self.at -= 1
        if self.at >= 0:
            return False
        self.fault = None
        return True

    def make(self) -> Sink:
        sink = sink_of(self.handle, using=self.alias, batch=self.batch, topics=("orders",), tries=TRIES)
        transact = sink._call_in_transaction

        def transacted(part: Batch, *given: Any) -> int:
            """As it is, and what happens before and after it."""
            owner = self.owners.index(sink)
            messages = [(part.place, int(each.offset() or 0)) for each in part.messages]
            if self._comes("before the transaction"):
                self.bad.update(messages)
                raise Crash
            if self._comes("another owner"):
                self.bad.update(messages)
                self.settle(part.place)
                self.claim(1 - owner, {part.place})
            end = transact(part, *given)
            if self._comes("after the commit"):
                raise Crash
            return end

        sink._call_in_transaction = transacted
        return sink

    # What happens.

    @rule(
        owner=st.sampled_from(OWNERS),
        place=st.sampled_from(PLACES),
        steps=STEPS,
        fault=st.sampled_from(FAULTS),
        at=st.integers(0, 3),
        times=st.integers(1, 4),
    )
    def write(self, owner: int, place: Place, steps: Steps, fault: str | None, at: int, times: int) -> None:
        """What Kafka has from the claimed position on, with `steps` more than before; what is left comes again."""
        self._append(place, steps)
        self.fault, self.at = fault, at
        for _ in range(times):
            if not self._write(owner, place):
                break
        self.fault = None

    def _append(self, place: Place, steps: Steps) -> None:
        log = self.logs[place]
        for gap, event, kind in steps:
            log[max([*log, self.models[place].position - 1]) + gap] = (event, kind)

    def _write(self, owner: int, place: Place) -> bool:
        """Whether the owner may go on."""
        claim, model, calls = self.claims[owner].get(place), self.models[place], self.calls
        offsets = [] if claim is None else [each for each in sorted(self.logs[place]) if each >= claim.next_offset][:8]
        if not offsets:
            return False
        messages = [self._message(place, offset) for offset in offsets]
        stale = claim != Claim(model.generation, model.position)
        try:
            now = self.owners[owner].write([Batch(place, claim, messages, offsets[-1] + 1)])
            assert not stale
            assert now >= claim.next_offset  # the same, where a slice is over when what failed has been cut out
        except Crash:
            self.fault = None
            self.settle(place)
            self.come_back(owner)
            return False
        except RetryLater as error:
            now = claim.next_offset if error.next_offset is None else error.next_offset
        except StaleOwner:
            assert stale or claim.generation < model.generation, "the owner's own write was refused"
            assert not stale or (calls, model.position) == (self.calls, self._position(place))
            self.settle(place)
            return False
        assert now == self._position(place)
        self.settle(place)
        self.claims[owner][place] = claim._replace(next_offset=now)
        return True

    def _message(self, place: Place, offset: int) -> Message:
        event, _ = self.logs[place][offset]
        return message(place, offset, **({} if event is None else {"headers": [(EVENT_ID_HEADER, event.encode())]}))

    @rule(owner=st.sampled_from(OWNERS), mended=st.booleans(), fault=st.sampled_from([None, None, "in the call"]))
    def resend(self, owner: int, fault: str | None, *, mended: bool) -> None:
        """Letters are handled again, after what was wrong with them has been mended, or not."""
        waiting = {each.pk: self._where(each) for each in self._listed().exclude(state=DeadLetter.State.RESENT)}
        if not waiting:
            return
        deadletters.resend(list(waiting), CODE, self.alias)
        for place, offset in waiting.values() if mended else ():
            self.logs[place][offset] = (self.logs[place][offset][0], "sound")
        self.fault, self.at = fault, 0
        try:
            self.owners[owner].tick()
        except Crash:
            self.come_back(owner)
        self.fault = None
        settled = self._listed().filter(pk__in=waiting, state=DeadLetter.State.RESENT).order_by("changed_at")
        for place, offset in map(self._where, settled):
            assert self.logs[place][offset][1] in {"sound", "slow", "fails once"}
            self.models[place].stored.append(offset)

    # What must be true.

    def settle(self, place: Place) -> None:
        """Everything before the position has had its effect, or is a letter with a reason, or is a repeat."""
        model, log = self.models[place], self.logs[place]
        position, found = self._position(place), self.read().get(place, [])
        for offset in sorted(offset for offset in log if model.position <= offset < position):
            event, kind = log[offset]
            if event in self.events(place):
                continue
            if found.count(offset) > model.stored.count(offset):
                assert kind not in {"poison", "rejected"}
                model.stored.append(offset)
            else:
                assert self.bad[place, offset] >= (1 if kind == "rejected" else TRIES)
                self.letters.add((place, offset))
            if event is not None:
                model.events[event] = offset
        model.position = position

    @invariant()
    def letters_are_listed_once_and_positions_are_where_they_are(self) -> None:
        if hasattr(self, "models"):
            assert sorted(map(self._where, self._listed())) == sorted(self.letters)
            rows = Position.objects.using(self.alias).values_list("topic", "topic_id", "partition", "next_offset")
            assert {Place(*row[:3]): row[3] for row in rows} == {p: m.position for p, m in self.models.items()}

    def read(self) -> dict[Place, list[int]]:
        found: dict[Place, list[int]] = {}
        for name in Role.objects.using(self.alias).order_by("pk").values_list("name", flat=True):
            topic, topic_id, partition, offset, _ = name.split()
            found.setdefault(Place(topic, topic_id, int(partition)), []).append(int(offset))
        return found

    def _position(self, place: Place) -> int:
        rows = Position.objects.using(self.alias)
        return rows.get(topic_id=place.topic_id, partition=place.partition).next_offset

    def _listed(self) -> Any:
        return DeadLetter.objects.using(self.alias)

    @staticmethod
    def _where(letter: DeadLetter) -> At:
        return Place(letter.topic, letter.topic_id, letter.partition), letter.offset

    def teardown(self) -> None:
        if hasattr(self, "models") and sys.exception() is None:  # with nothing in its way all of it is handled
            self.claim(0, set(PLACES))
            for place in PLACES:
                for _ in range(100):
                    if not self._write(0, place):
                        break
                assert self.models[place].position > max(self.logs[place], default=-1)
        super().teardown()

    def clean(self) -> None:
        for model in (Role, DeadLetter, SeenEvent, Gap, Position):
            model.objects.using(self.alias).all().delete()


class PostgresHandlerMachine(HandlerMachine):
    alias = "postgres"


@pytest.fixture(autouse=True)
def clocks(monkeypatch):
    """Time goes on when a slow message says so."""
    clock = Clock()
    for module in ("tkcons.call", "tkcons.sinks.handler"):
        monkeypatch.setattr(f"{module}.time", clock)
    monkeypatch.setattr("tkcons.sinks.handler.LONG_SECONDS", 600.0)
    monkeypatch.setattr(HandlerMachine, "clock", clock, raising=False)


@pytest.mark.django_db(transaction=True)
def test_a_handler_on_sqlite():
    run_state_machine_as_test(HandlerMachine, settings=HALF)


def test_a_handler_on_postgresql(postgres_alias, django_db_blocker):
    with django_db_blocker.unblock():
        run_state_machine_as_test(PostgresHandlerMachine, settings=HALF)
