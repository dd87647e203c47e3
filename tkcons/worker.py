"""The work thread of a runner: takes what waits, writes it to the sink, tells how it went."""

import logging
import threading
import time
from collections.abc import Sequence

from django.db import close_old_connections, connections, reset_queries

from tk import topics, tracing
from tk.database import keep_connections
from tk.errors import NotSent, UnknownTopic
from tkcons import metrics
from tkcons.assignment import Assignment
from tkcons.conf import settings
from tkcons.errors import RetryLater, SinkUnavailable, StaleOwner
from tkcons.sinks.base import Batch, Place, Sink

logger = logging.getLogger(__name__)

TICK_SECONDS = 1.0


class Worker(threading.Thread):
    """Writes until `Assignment.end`."""

    def __init__(self, group: str, sink: Sink, assignment: Assignment) -> None:
        super().__init__(name=f"{group}-work", daemon=True)
        self.group = group
        self.failure: BaseException | None = None  # what ended the thread: the runner starts anew
        self._sink = sink
        self._assignment = assignment
        self._failures = 0
        self._tick_at = 0.0  # monotonic
        self._down = ""  # why nothing can be stored
        self._resting: dict[Place, str] = {}  # why single partitions rest

    @property
    def error(self) -> str:
        """The last failure of what still fails; empty after a success."""
        held = self._assignment.names()
        reasons = [why for place, why in list(self._resting.items()) if (place.topic, place.partition) in held]
        return self._down or next(iter(reasons), "")

    def run(self) -> None:
        try:
            while (batches := self._assignment.take(TICK_SECONDS, alone=self._sink.alone)) is not None:
                if time.monotonic() >= self._tick_at:
                    self._tick_at = time.monotonic() + TICK_SECONDS
                    self._sink.tick()
                if batches:
                    self._write(batches)
                    reset_queries()  # DEBUG keeps every statement
                    keep_connections()
                else:
                    close_old_connections()  # idle: as Django does between requests
        except Exception as error:  # whatever it is, the runner tells it and starts a new thread after a pause
            self.failure = error
            logger.exception("storing ended", extra={"action": "store", "group": self.group})
        finally:
            connections.close_all()

    def _write(self, batches: Sequence[Batch]) -> None:
        current, renewed = self._by_topic_id(batches)
        if renewed:
            self._assignment.refuse(renewed)
        if current:
            self._store(current)

    def _store(self, batches: Sequence[Batch]) -> None:
        began, before = time.monotonic(), self._assignment.stored
        try:
            with tracing.processing(self.group, [(batch.place.topic, batch.messages) for batch in batches]):
                end = self._sink.write(batches)
        except StaleOwner as error:
            logger.warning("refused", extra={"action": "store", "group": self.group, "error": str(error)})
            self._assignment.refuse(batches)
            metrics.failed(self.group)
        except RetryLater as error:
            for batch in batches:
                self._resting[batch.place] = str(error)
                self._assignment.rest(batch, error.seconds, error.next_offset)
            if moved := self._assignment.stored - before:  # what came before the message that failed
                metrics.stored(self.group, moved, time.monotonic() - began)
            metrics.failed(self.group)
        except SinkUnavailable as error:
            self._fail(batches, error)
        else:
            self._assignment.done(batches, end)
            self._failures, self._down = 0, ""
            for batch in batches if self._resting else ():
                self._resting.pop(batch.place, None)
            metrics.stored(self.group, self._assignment.stored - before, time.monotonic() - began)
            logger.debug("stored", extra={"action": "store", "group": self.group, "records": _count(batches)})

    def _fail(self, batches: Sequence[Batch], error: SinkUnavailable) -> None:
        first, longest = settings.RETRY_SECONDS
        pause = min(longest, first * 2 ** min(self._failures, 10))
        self._failures += 1
        self._down = str(error)
        logger.warning(
            "not stored",
            extra={
                "action": "store",
                "group": self.group,
                "records": _count(batches),
                "error": str(error),
                "pause": pause,
            },
        )
        metrics.failed(self.group)
        close_old_connections()
        self._assignment.put_back(batches, pause)

    def _by_topic_id(self, batches: Sequence[Batch]) -> tuple[list[Batch], list[Batch]]:
        """Batches whose topic still is the one that was claimed, and those of a topic that was made again.

        Messages carry no topic id: this look, at most TOPIC_ID_SECONDS old, is what tells the two apart.
        """
        current: list[Batch] = []
        renewed: list[Batch] = []
        for batch in batches:
            try:
                seen = topics.get(batch.place.topic, settings.TOPIC_ID_SECONDS).id
            except (UnknownTopic, NotSent):
                seen = batch.place.topic_id  # deleted, or the brokers are away: these were read before
            (current if seen == batch.place.topic_id else renewed).append(batch)
        return current, renewed


def _count(batches: Sequence[Batch]) -> int:
    return sum(len(batch.messages) for batch in batches)
