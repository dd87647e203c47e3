"""A model of what a sink is: hypothesis writes, crashes, takes over, seeks and repeats as it likes.

MODEL_EXAMPLES: how many courses on each storage (default 60).
"""

import os
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from tests.sink_contract import message
from tk.record import EVENT_ID_HEADER
from tkcons.errors import CannotSeek, StaleOwner
from tkcons.sinks.base import Batch, Claim, Place, Sink

PLACES = [Place("orders", "id-1", 0), Place("orders", "id-1", 1), Place("orders", "id-2", 0)]
OWNERS = [0, 1]
EVENTS = ["a", "b", "c"]
SETTINGS = settings(
    max_examples=int(os.environ.get("MODEL_EXAMPLES", "60")),
    stateful_step_count=20,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)


class Crash(BaseException):
    """The process ends here: no handler of the product's may see to it."""


@dataclass
class Model:
    """What is true of one place. stored: offsets in order. events: seen, with the offset they were stored at."""

    generation: int = 0
    position: int = 0
    stored: list[int] = field(default_factory=list)
    events: dict[str, int] = field(default_factory=dict)


class Machine(RuleBasedStateMachine):
    """A subclass gives `make`, `read` and `clean`.

    goes_back: whether it can seek to what it has stored. takes_back: whether that is taken out.
    """

    goes_back = takes_back = True

    @initialize(start=st.integers(0, 5))
    def begin(self, start: int) -> None:
        self.prepare()
        self.owners: list[Sink] = [self.opened() for _ in OWNERS]
        self.claims: list[dict[Place, Claim]] = [{}, {}]
        self.owners[0].begin(dict.fromkeys(PLACES, start))
        self.owners[1].begin(dict.fromkeys(PLACES, start + 1))  # they are there already
        self.models = {place: Model(position=start) for place in PLACES}
        self.claim(0, set(PLACES))

    def prepare(self) -> None:
        """An empty storage."""

    def make(self) -> Sink:
        raise NotImplementedError

    def read(self) -> dict[Place, list[int]]:
        raise NotImplementedError

    def clean(self) -> None:
        raise NotImplementedError

    def opened(self) -> Sink:
        sink = self.make()
        sink.open()
        return sink

    @rule(owner=st.sampled_from(OWNERS), places=st.sets(st.sampled_from(PLACES), min_size=1))
    def claim(self, owner: int, places: set[Place]) -> None:
        claims = self.owners[owner].claim(places)
        assert claims.keys() == places
        for place in places:
            self.models[place].generation += 1
            assert claims[place] == Claim(self.models[place].generation, self.models[place].position)
        self.claims[owner] |= claims

    @rule(
        owner=st.sampled_from(OWNERS),
        place=st.sampled_from(PLACES),
        steps=st.lists(st.tuples(st.integers(1, 3), st.sampled_from([None, None, *EVENTS])), min_size=1, max_size=6),
        crash=st.sampled_from([None, None, None, "before", "inside"]),
    )
    def write(self, owner: int, place: Place, steps: list[tuple[int, str | None]], crash: str | None) -> None:
        """Offsets with gaps, as compaction leaves them; some messages are events of the outbox."""
        claim, model = self.claims[owner].get(place), self.models[place]
        if claim is None:
            return
        offset, messages, kept = claim.next_offset - 1, [], []
        seen = self.events(place)
        for gap, event in steps:
            offset += gap
            headers = {} if event is None else {"headers": [(EVENT_ID_HEADER, event.encode())]}
            messages.append(message(place, offset, **headers))
            if event is None or event not in seen:
                kept.append((offset, event))
                seen |= {event} - {None}
        batch = Batch(place, claim, messages, offset + 1)
        stale = claim != Claim(model.generation, model.position)
        sink = self.owners[owner]
        try:
            with self.crashing(sink, crash) if crash else nullcontext():
                sink.write([batch])
        except Crash:
            pass  # half way, and its process with it: nothing of it may be there afterwards
        except StaleOwner:
            assert stale, "the owner's own write was refused"
        else:
            assert not stale, "another owner's write went through"
            assert not (crash and kept), "it did not come to where it was to crash"  # a file is not opened for repeats
            model.position = offset + 1
            model.stored += [number for number, _ in kept]
            model.events |= {event: number for number, event in kept if event}
            self.claims[owner][place] = claim._replace(next_offset=offset + 1)
        if crash:
            self.vanish(sink)
            self.come_back(owner)

    def crashing(self, sink: Sink, where: str) -> Any:
        raise NotImplementedError

    def vanish(self, sink: Sink) -> None:
        """What the system does when a process is gone."""

    @rule(owner=st.sampled_from(OWNERS))
    def end_and_come_back(self, owner: int) -> None:
        self.owners[owner].close()
        self.come_back(owner)

    def come_back(self, owner: int) -> None:
        self.owners[owner] = self.opened()
        self.claims[owner] = {}
        self.what_is_stored_is_what_the_model_has()  # before the first write too
        self.claim(owner, set(PLACES))

    @rule(owner=st.sampled_from(OWNERS), place=st.sampled_from(PLACES), offset=st.integers(0, 30))
    def seek(self, owner: int, place: Place, offset: int) -> None:
        claim, model = self.claims[owner].get(place), self.models[place]
        if claim is None or claim != Claim(model.generation, model.position):
            return
        if offset < model.position and not self.goes_back:
            with pytest.raises(CannotSeek):
                self.owners[owner].seek(place, claim, offset)
            return
        self.owners[owner].seek(place, claim, offset)
        model.position = offset
        if self.takes_back:
            model.stored = [number for number in model.stored if number < offset]
        model.events = {event: number for event, number in model.events.items() if number < offset}
        self.claims[owner] |= self.owners[owner].claim([place])
        model.generation = self.claims[owner][place].generation

    def events(self, place: Place) -> set[str | None]:
        """Seen in any partition of this topic."""
        same = [model for other, model in self.models.items() if other.topic_id == place.topic_id]
        return {event for model in same for event in model.events}

    @invariant()
    def what_is_stored_is_what_the_model_has(self) -> None:
        if not hasattr(self, "models"):
            return
        found = self.read()
        assert {place: found.get(place, []) for place in PLACES} == {p: m.stored for p, m in self.models.items()}

    def teardown(self) -> None:
        for sink in getattr(self, "owners", []):
            sink.close()
        self.clean()


class Patched:
    """An attribute replaced for a while."""

    def __init__(self, owner: Any, name: str, value: Any) -> None:
        self.owner, self.name, self.value = owner, name, value

    def __enter__(self) -> None:
        self.real = getattr(self.owner, self.name)
        setattr(self.owner, self.name, self.value(self.real))

    def __exit__(self, *_: object) -> None:
        setattr(self.owner, self.name, self.real)


def crash_at(where: str) -> Callable[[Any], Any]:
    def replaced(real: Any) -> Any:
        def crashing(*arguments: Any, **options: Any) -> None:
            if where == "inside":
                real(*arguments, **options)
            raise Crash

        return crashing

    return replaced
