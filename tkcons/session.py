"""A runner's time with one Kafka consumer and one open sink: polling, assignment, commits."""

import logging
import threading
import time
from collections.abc import Callable
from typing import Any

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from tk import topics
from tk.client import client_config
from tk.errors import TkError
from tkcons import options
from tkcons.assignment import Assignment, Name
from tkcons.claims import ANSWER_SECONDS, Claims
from tkcons.conf import settings
from tkcons.errors import ClockPutBack, HandlerOverdue, OffsetLost, SinkUnavailable, TkconsError
from tkcons.groups import Spec
from tkcons.models import Group
from tkcons.sinks.base import Sink
from tkcons.worker import Worker

logger = logging.getLogger(__name__)

POLL_SECONDS = 0.1
LOOK_SECONDS = 0.5  # Kafka's own offsets and the ends in the heartbeat are for lag tools: they may be this old
FLOOD = 100  # messages of one poll, from which on the next waits for company
HOLD_BACK_SECONDS = 2.0  # how long polling waits for a slow sink before the partitions are paused
RECLAIM_SECONDS = 1.0  # a refused write: Kafka may be about to tell us that the partition is another's


class Session:
    """A runner's time with one consumer and one open sink."""

    def __init__(self, spec: Spec, sink: Sink, static_id: str) -> None:
        self.spec = spec
        self.error = ""
        self.ending = False
        self.outdated = False  # set by another thread: the client's waits may last too long, see tk.clock
        only = spec.topics[0] if len(spec.topics) == 1 else None
        self.assignment = Assignment(settings.BATCH, settings.BATCH_BYTES, only)
        self.worker = Worker(spec.name, sink, self.assignment)
        self._sink = sink
        member = {**options.member(spec.name, static_id), "on_commit": self._on_commit}
        self._consumer = Consumer(client_config(member, options.defaults()))
        self._claims = Claims(spec, sink, self._consumer)
        self._unclaimed: set[Name] = set()  # assigned by Kafka, not yet claimed from the sink
        self._try_claims_at = 0.0
        self._resting: set[Name] = set()  # paused until the sink wants to see their batch again
        self._lost: dict[Name, str] = {}  # stopped, and why: Kafka no longer has their position
        self._paused = False
        self._full = False  # held back: a slow sink has as much as it may
        self._hangs = False
        self._flood = False  # the last poll brought FLOOD messages
        self._looked_at = 0.0
        self._ends: dict[Name, int] = {}

    def run(self, wanted: Callable[[], str]) -> None:
        """Poll until `wanted()` is stopped; then end the write under way, commit, leave the group."""
        self.worker.start()
        try:
            self._consumer.subscribe(
                list(self.spec.topics), on_assign=self._on_assign, on_revoke=self._on_revoke, on_lost=self._on_lost
            )
            while (state := wanted()) != Group.State.STOPPED:
                if (state == Group.State.PAUSED) != self._paused:
                    self._paused = not self._paused
                    self._hold_back(on=self._paused)
                self._step(wanted)
        finally:
            self._close()
        if self.worker.failure is not None:
            raise SinkUnavailable(f"Storing ended: {self.worker.failure}") from self.worker.failure

    def _step(self, wanted: Callable[[], str]) -> None:
        if not self.worker.is_alive():
            raise SinkUnavailable(f"Storing ended: {self.worker.failure}") from self.worker.failure
        if self.outdated:
            raise ClockPutBack
        self._refuse_overdue()
        if self.assignment.full and not self.assignment.wait_for_room(HOLD_BACK_SECONDS):
            self._poll_while_full(wanted)
        self._receive(self._poll())
        if stale := self.assignment.take_stale():
            self._unclaimed |= stale
            self._try_claims_at = time.monotonic() + RECLAIM_SECONDS
        if self._unclaimed and time.monotonic() >= self._try_claims_at:
            self._claim_again()
        self._mind_resting()
        if time.monotonic() - self._looked_at >= LOOK_SECONDS:
            self._looked_at = time.monotonic()
            self._commit()
            self._look_at_ends()

    def _poll(self) -> list[Any]:
        """What has come. A single message at once; in a flood BATCH_MS are waited for a batch that is worth its cost."""
        seconds = settings.BATCH_MS / 1000
        if self._flood:
            messages = self._consumer.consume(settings.BATCH, seconds)
        elif messages := self._consumer.consume(1, seconds):
            messages += self._consumer.consume(settings.BATCH - 1, 0)
        self._flood = len(messages) >= FLOOD
        return messages

    def _poll_while_full(self, wanted: Callable[[], str]) -> None:
        """A slow sink: keep the membership alive without taking more in. Pausing drops what librdkafka has fetched."""
        self._full = True
        self._hold_back(on=True)
        while self.assignment.full and self.worker.is_alive() and wanted() != Group.State.STOPPED:
            self._receive(self._consumer.consume(1, POLL_SECONDS))
            self._refuse_overdue()
        self._full = False
        self._hold_back(on=self._paused)

    def _refuse_overdue(self) -> None:
        """Give up on a sink that hangs: its write is refused later, for whoever comes next has a newer claim."""
        if overdue := self._sink.overdue():
            self._hangs = True
            raise HandlerOverdue(overdue)

    def _hold_back(self, *, on: bool) -> None:
        assigned = self._consumer.assignment()
        if not on:
            blocked = self._lost.keys() | self._unclaimed | self._resting
            assigned = [p for p in assigned if (p.topic, p.partition) not in blocked]
        (self._consumer.pause if on else self._consumer.resume)(assigned)

    def _receive(self, messages: list[Any]) -> None:
        if not messages:
            return
        broken: list[Any] = []
        if any(map(Message.error, messages)):
            broken = [message for message in messages if message.error() is not None]
            messages = [message for message in messages if message.error() is None]
        self.assignment.add(messages)
        for message in broken:
            self._on_error(message)

    def _on_error(self, message: Any) -> None:
        error: KafkaError = message.error()
        name = (message.topic(), message.partition())
        code = error.code()
        if code in {KafkaError._AUTO_OFFSET_RESET, KafkaError.OFFSET_OUT_OF_RANGE}:
            self._on_offset_lost(name)
        elif code in {KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError._UNKNOWN_PARTITION, KafkaError.UNKNOWN_TOPIC_ID}:
            topics.metadata.forget()
            self.error = f"Topic {name[0]!r} is not there: it was deleted, or not made yet."
        elif error.fatal():
            raise KafkaException(error)
        else:
            logger.warning("consumer", extra={"action": "poll", "group": self.spec.name, "error": error.str()})

    def _on_offset_lost(self, name: Name) -> None:
        """The position is outside what Kafka has: a topic made again begins anew; else this partition stops."""
        position = self.assignment.positions().get(name)
        self.assignment.drop([name], settings.REVOKE_SECONDS)
        known = self._claims.renew(name)
        if known is None or known.next_offset != position:
            self._unclaimed.add(name)
            return
        self.error = self._lost[name] = str(
            OffsetLost(f"{name[0]}[{name[1]}]: {self._how_lost(name, known.next_offset)}")
        )
        logger.error(
            "offset lost", extra={"action": "stop", "topic": name[0], "partition": name[1], "offset": position}
        )

    def _how_lost(self, name: Name, position: int) -> str:
        stopped = "The partition is stopped; the others go on."
        try:
            low, end = self._consumer.get_watermark_offsets(TopicPartition(*name), timeout=ANSWER_SECONDS)
        except KafkaException:
            low, end = position + 1, position
        if low > position:
            return f"Kafka no longer has offset {position}: messages expired unread. {stopped}"
        return f"Kafka's log was cut back, and ends at {end}: the brokers lost what is before {position}. {stopped}"

    # Assignment, as Kafka gives and takes it.

    def _on_assign(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        names = [(p.topic, p.partition) for p in partitions]
        try:
            claims = self._claims.take(names)
        except (TkError, TkconsError, KafkaException) as error:
            self._unclaimed.update(names)
            self._try_claims_at = time.monotonic() + settings.RETRY_SECONDS[0]
            self.error = str(error)
            consumer.incremental_assign([TopicPartition(*name, 0) for name in names])
            consumer.pause(partitions)  # what comes before the claim is dropped: the partition is not held
            return
        consumer.incremental_assign(
            [TopicPartition(place.topic, place.partition, claim.next_offset) for place, claim in claims.items()]
        )
        for place, claim in claims.items():
            self.assignment.hold(place, claim)
        # A pause outlives an assignment: one that was paused when it went would come back paused.
        (consumer.pause if self._paused or self._full else consumer.resume)(partitions)
        self.error = next(iter(self._lost.values()), "")
        logger.info("assigned", extra={"action": "assign", "group": self.spec.name, "partitions": names})

    def _on_revoke(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        """Another member gets these: what is being written is waited for, its position told to Kafka."""
        self._leave(partitions, wait=True)
        self._commit()
        consumer.incremental_unassign(partitions)

    def _on_lost(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        """Others have these already: nothing is flushed, and a write under way is refused by its claim."""
        self._leave(partitions, wait=False)
        consumer.incremental_unassign(partitions)

    def _leave(self, partitions: list[TopicPartition], *, wait: bool) -> None:
        names = [(p.topic, p.partition) for p in partitions]
        self.assignment.drop(names, settings.REVOKE_SECONDS if wait and not self._hangs else 0.0)
        self._unclaimed.difference_update(names)
        for name in names:
            self._lost.pop(name, None)
        logger.info("revoked", extra={"action": "revoke", "group": self.spec.name, "partitions": names})

    def _claim_again(self) -> None:
        names = sorted(self._unclaimed)
        try:
            claims = self._claims.take(names)
            targets = [
                TopicPartition(place.topic, place.partition, claim.next_offset) for place, claim in claims.items()
            ]
            self._put_at(targets)
        except (TkError, TkconsError, KafkaException) as error:
            self._try_claims_at = time.monotonic() + settings.RETRY_SECONDS[0]
            self.error = str(error)
            logger.warning("not claimed", extra={"action": "claim", "group": self.spec.name, "error": self.error})
            return
        logger.info("claimed anew", extra={"action": "claim", "group": self.spec.name, "partitions": names})
        self._unclaimed.clear()
        self.error = next(iter(self._lost.values()), "")
        for place, claim in claims.items():
            self.assignment.hold(place, claim)

    def _put_at(self, targets: list[TopicPartition]) -> None:
        """Go on from these offsets. Taken off and put on again: a partition that was out of range refuses to seek."""
        self._consumer.incremental_unassign(targets)
        self._consumer.incremental_assign(targets)
        (self._consumer.pause if self._paused else self._consumer.resume)(targets)  # a pause outlives an assignment

    def _mind_resting(self) -> None:
        """Partitions that rest are paused; when their time has come they go on from their position."""
        resting = self.assignment.resting()
        self._resting &= resting.keys()
        for name, until in resting.items():
            if until <= time.monotonic():
                self._put_at([TopicPartition(*name, self.assignment.positions()[name])])
                self._resting.discard(name)
                self.assignment.wake(name)
            elif name not in self._resting:
                self._consumer.pause([TopicPartition(*name)])
                self._resting.add(name)

    def _commit(self) -> None:
        """Tell Kafka the positions, for lag tools, and where the group began. Nobody waits for the answer: ours count."""
        moved = self.assignment.take_moved()
        if moved:
            try:
                self._consumer.commit(offsets=self._claims.tell(moved), asynchronous=True)
            except KafkaException as error:
                self.assignment.not_told(moved)
                logger.info("not committed", extra={"action": "commit", "group": self.spec.name, "error": str(error)})

    def _on_commit(self, error: KafkaError | None, offsets: list[TopicPartition]) -> None:
        self.assignment.not_told((each.topic, each.partition) for each in offsets if error or each.error)

    def _close(self) -> None:
        """Let the write under way come to its end and leave the group, which commits; what waits is given back."""
        self.ending = True
        self.assignment.end()
        self.worker.join(0.0 if self._hangs else settings.STOP_SECONDS / 2)
        self._hangs = self.worker.is_alive()
        # Closing waits for the answers to commits, without a bound: brokers that are down must not hold the end up. Whoever
        # does not leave is put out by the session's timeout.
        leaving = threading.Thread(target=self._leave_group, name=f"{self.spec.name}-leave", daemon=True)
        leaving.start()
        leaving.join(settings.STOP_SECONDS / 4)
        if leaving.is_alive():
            logger.warning(
                "not left", extra={"action": "stop", "group": self.spec.name, "error": "Kafka does not answer."}
            )

    def _leave_group(self) -> None:
        try:
            self._consumer.close()
        except KafkaException as error:
            logger.info("not left", extra={"action": "stop", "group": self.spec.name, "error": str(error)})

    def _look_at_ends(self) -> None:
        """Note the partitions' ends as the last fetch told them. On this thread: the client takes one call at a time."""
        ends = {}
        for name in self.assignment.positions():
            seen = self._consumer.get_watermark_offsets(TopicPartition(*name), cached=True)
            if seen is not None and seen[1] >= 0:
                ends[name] = seen[1]
        self._ends = ends

    def partitions(self) -> list[dict[str, Any]]:
        """The held partitions with position, end and lag, for the heartbeat; end and lag None until a fetch tells."""
        ends = self._ends
        return [
            {
                "topic": topic,
                "partition": partition,
                "position": position,
                "end": ends.get((topic, partition)),
                "lag": max(0, ends[topic, partition] - position) if (topic, partition) in ends else None,
            }
            for (topic, partition), position in sorted(self.assignment.positions().items())
        ]
