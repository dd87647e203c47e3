"""The partitions that a runner holds, shared by its poll thread and its work thread."""

import threading
import time
from bisect import bisect_left
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

from confluent_kafka import Message

from tkcons.sinks.base import Batch, Claim, Place

Name = tuple[str, int]  # topic, partition


@dataclass(eq=False, slots=True)
class Held:
    """A partition that Kafka has assigned to this runner and whose place in the sink is claimed."""

    place: Place
    claim: Claim  # what the sink has for it
    expected: int  # the next offset to come from Kafka: past what is waiting
    waiting: list[Message] = field(default_factory=list)
    waiting_bytes: int = 0  # of those that have been weighed: the first so many
    weighed: int = 0
    in_hand: list[Message] = field(default_factory=list)  # being written, or to be written again
    writing: bool = False
    resting_until: float = 0.0  # monotonic; until `wake` nothing is taken in
    leaving: bool = False  # nothing more of it is written

    def weigh(self) -> int:
        """Bytes that wait. Counted when they matter: in a flood the number of messages says it all."""
        if self.weighed < len(self.waiting):
            self.waiting_bytes += sum(map(len, self.waiting[self.weighed :]))
            self.weighed = len(self.waiting)
        return self.waiting_bytes


class Assignment:
    """Held partitions and what waits in them. Methods may be called from both threads.

    max_records, max_bytes: how much may wait, beside as much that is in hand; `full` says when the poll thread shall
    hold back. topic: the only one that is subscribed to; None: there are several.
    """

    def __init__(self, max_records: int, max_bytes: int, topic: str | None = None) -> None:
        self._topic = topic
        self._held: dict[Name, Held] = {}
        self._change = threading.Condition()
        self._records = 0
        self._max_records = max_records
        self._max_bytes = max_bytes
        self._not_before = 0.0  # monotonic: a failed write rests until then
        self._ended = False
        self.stored = 0  # records, since the start
        self.moved: dict[Name, int] = {}  # positions to commit to Kafka
        self.stale: set[Name] = set()  # to be claimed anew

    # The poll thread's side.

    def hold(self, place: Place, claim: Claim) -> None:
        with self._change:
            self._held[place.topic, place.partition] = Held(place, claim, claim.next_offset)
            self.moved[place.topic, place.partition] = claim.next_offset
            self.stale.discard((place.topic, place.partition))

    def add(self, messages: Iterable[Message]) -> None:
        """Take messages in; those of partitions that are not held, or before what is expected, are dropped."""
        with self._change:
            for name, part in self._runs(messages):
                held = self._held.get(name)
                if held is not None and not held.resting_until:
                    self._extend(held, part)
            self._change.notify_all()

    def _runs(self, messages: Iterable[Any]) -> Iterator[tuple[Name, list[Any]]]:
        """Neighbours of one partition together. Per message this is one C call, two where there are several topics."""
        partition: Any  # and the topic: None in events alone, which are not here
        topic: Any
        for partition, run in groupby(messages, Message.partition):
            if self._topic is not None:
                yield (self._topic, partition), list(run)
            else:
                for topic, part in groupby(run, Message.topic):
                    yield (topic, partition), list(part)

    def _extend(self, held: Held, part: list[Any]) -> None:
        if part[0].offset() < held.expected:
            part = [message for message in part if message.offset() >= held.expected]
            if not part:
                return
        held.waiting += part
        held.expected = part[-1].offset() + 1
        self._records += len(part)

    @property
    def full(self) -> bool:
        if self._records >= self._max_records:
            return True
        with self._change:
            return sum(held.weigh() for held in self._held.values()) >= self._max_bytes

    def wait_for_room(self, seconds: float) -> bool:
        """Wait until less than the limit waits; False when the time is over."""
        with self._change:
            return self._change.wait_for(lambda: not self.full, seconds)

    def drop(self, names: Collection[Name], seconds: float) -> None:
        """Hold these partitions no more; wait at most so long for a write of theirs that is under way."""
        with self._change:
            for name in names:
                held = self._held.get(name)
                if held is not None:
                    self._take_waiting(held)
                    held.leaving = True  # or the rest of a batch would be begun before this thread's turn comes
            self._change.wait_for(lambda: not any(self._is_writing(name) for name in names), seconds)
            for name in names:
                self._held.pop(name, None)
                self.stale.discard(name)
            self._change.notify_all()

    def resting(self) -> dict[Name, float]:
        """The partitions that rest, and when (monotonic) they shall go on."""
        with self._change:
            return {name: held.resting_until for name, held in self._held.items() if held.resting_until}

    def wake(self, name: Name) -> None:
        """This partition rests no more: the consumer has been put back to its position."""
        with self._change:
            if name in self._held:
                self._held[name].resting_until = 0.0

    def take_stale(self) -> set[Name]:
        """Partitions to be claimed anew, since the last call."""
        with self._change:
            stale, self.stale = self.stale, set()
            return stale

    def take_moved(self) -> dict[Name, int]:
        """Positions that are new or have moved since the last call."""
        with self._change:
            moved, self.moved = self.moved, {}
            return moved

    def not_told(self, names: Iterable[Name]) -> None:
        """Kafka did not take the positions of these partitions: the next call of `take_moved` gives them again."""
        with self._change:
            for name in names:
                if name in self._held:
                    self.moved[name] = self._held[name].claim.next_offset

    def positions(self) -> dict[Name, int]:
        """The stored position of each held partition."""
        with self._change:
            return {name: held.claim.next_offset for name, held in self._held.items()}

    def names(self) -> set[Name]:
        with self._change:
            return set(self._held)

    def end(self) -> None:
        """Let the work thread end."""
        with self._change:
            self._ended = True
            self._change.notify_all()

    # The work thread's side.

    def take(self, seconds: float, *, alone: bool = False) -> list[Batch] | None:
        """What waits, a batch a partition, marked as being written; [] when the time is over, None at the end.

        alone: one partition's, each in its turn, so that between two of them others can be revoked, or all end.
        """
        with self._change:
            self._change.wait_for(self._can_take, seconds)
            if self._ended:
                return None
            rest = self._not_before - time.monotonic()
            if rest > 0:
                self._change.wait(min(rest, seconds))
                return []
            batches = []
            for name, held in list(self._held.items()):
                if held.leaving:
                    continue
                if not held.in_hand:
                    held.in_hand = self._take_waiting(held)
                if held.in_hand:
                    held.writing = True
                    last: Any = held.in_hand[-1]
                    batches.append(Batch(held.place, held.claim, held.in_hand, last.offset() + 1))
                    if alone:
                        self._held[name] = self._held.pop(name)  # to the end of the line
                        break
            self._change.notify_all()  # there is room again
            return batches

    def done(self, batches: Collection[Batch], end: int | None = None) -> None:
        """These batches are stored; of a batch alone, only what is before `end`, if that is given."""
        with self._change:
            for batch in batches:
                held = self._own(batch)
                left = [] if end is None else list(batch.messages[bisect_left(batch.messages, end, key=_offset) :])
                position = batch.end if end is None else end
                self.stored += len(batch.messages) - len(left)
                self.moved[batch.place.topic, batch.place.partition] = position
                if held is not None:
                    held.writing = False
                    held.in_hand = left
                    held.claim = Claim(batch.claim.generation, position)
            self._change.notify_all()

    def put_back(self, batches: Collection[Batch], seconds: float) -> None:
        """These batches could not be stored: they wait again, and nothing is taken for so many seconds."""
        with self._change:
            for batch in batches:
                held = self._own(batch)
                if held is not None:
                    held.writing = False
            self._not_before = time.monotonic() + seconds
            self._change.notify_all()

    def rest(self, batch: Batch, seconds: float, next_offset: int | None) -> None:
        """This partition comes again after so many seconds, from `next_offset` or else where the batch began.

        What waits of it is dropped: a resting partition takes no memory and no room from the others.
        """
        with self._change:
            held = self._own(batch)
            if held is not None:
                self._take_waiting(held)
                held.in_hand, held.writing = [], False
                if next_offset is not None and next_offset != held.claim.next_offset:
                    held.claim = Claim(held.claim.generation, next_offset)
                    self.moved[batch.place.topic, batch.place.partition] = next_offset
                    self.stored += sum(1 for message in batch.messages if _offset(message) < next_offset)
                held.expected = held.claim.next_offset
                held.resting_until = time.monotonic() + seconds
            self._change.notify_all()

    def refuse(self, batches: Collection[Batch]) -> None:
        """These batches have another owner by now: what waits is dropped, the partitions shall be claimed anew."""
        with self._change:
            for batch in batches:
                name = (batch.place.topic, batch.place.partition)
                held = self._own(batch)
                if held is not None:
                    self._take_waiting(held)
                    del self._held[name]
                    self.stale.add(name)
            self._change.notify_all()

    def _can_take(self) -> bool:
        return self._ended or any((held.waiting or held.in_hand) and not held.leaving for held in self._held.values())

    def _own(self, batch: Batch) -> Held | None:
        """The partition of the batch, if it is still held under the same claim."""
        held = self._held.get((batch.place.topic, batch.place.partition))
        return held if held is not None and held.claim == batch.claim and held.place == batch.place else None

    def _is_writing(self, name: Name) -> bool:
        held = self._held.get(name)
        return held is not None and held.writing

    def _take_waiting(self, held: Held) -> list[Message]:
        """What waits, out of the count."""
        self._records -= len(held.waiting)
        waiting, held.waiting, held.waiting_bytes, held.weighed = held.waiting, [], 0, 0
        return waiting


def _offset(message: Any) -> int:
    return int(message.offset())
