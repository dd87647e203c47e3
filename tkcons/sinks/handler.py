"""The sink behind `@handler`: a function is called in the transaction that moves the position."""

import logging
import time
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from django.db import DatabaseError, InterfaceError, connections, transaction

from tk.errors import TkError
from tkcons import deadletters, metrics, positions, repeats
from tkcons.call import LEEWAY_SECONDS, Call, Failure
from tkcons.errors import RetryLater, SinkUnavailable, StaleOwner
from tkcons.handlers import Handler
from tkcons.sinks.base import Batch, Claim, Place
from tkcons.sinks.database import PositionedSink, translated

logger = logging.getLogger(__name__)

# How long a transaction goes on calling for one message after the other. It holds the position's row (on SQLite the
# whole database), and meanwhile other partitions, a revoke and a stop wait for their turn.
SLICE_SECONDS = 0.5
CALL_MESSAGES = 5_000  # of one transaction, where the handler takes messages singly
# Who waits for SQLite's lock looks for it every 0.1 s: after a transaction that was long it is left free for a while,
# or a handler that writes again at once would starve heartbeats and requests.
LONG_SECONDS = 0.05
FREE_SECONDS = 0.1


class ProcessEnded(Exception):
    """The process ended, or was given up, while it handled this message."""


@dataclass
class _Course:
    """How a partition is being handled.

    alone_until: messages before this offset are handled one by one: a process ended among them. tries: begun and not
    finished, of the message at the position. limit: messages of the next transaction. failed: what is known to fail.
    begun: the end of the next messages, which are on record as begun and must be now; 0: none are.
    """

    limit: int
    alone_until: int = 0
    tries: int = 0
    begun: int = 0
    failed: dict[int, Failure] = field(default_factory=dict)


class HandlerSink(PositionedSink):
    """Calls a handler. After a failure the batch is cut until the message that fails stands alone: it is tried again
    with growing pauses, its partition waits, and at last it becomes a dead letter."""

    alone = True
    stores = False

    def __init__(self, group: str, *, handler: Handler, **options: Any) -> None:
        super().__init__(group, using=handler.using, **options)
        self._handler = handler
        self._most = handler.batch or CALL_MESSAGES
        self._courses: dict[Place, _Course] = {}
        self._call = Call(handler, self.using)

    def claim(self, places: Iterable[Place]) -> dict[Place, Claim]:
        claims = super().claim(places)
        with translated():
            tried = positions.tried({place: self._keys[place] for place in claims}, self.using)
        for place in claims:
            until, tries = tried.get(place, (0, 0))
            self._courses[place] = _Course(self._most, alone_until=until, tries=tries)
        return claims

    def write(self, batches: Sequence[Batch]) -> int:
        (batch,) = batches
        position, messages, at = batch.claim.next_offset, batch.messages, 0
        course = self._courses[batch.place]
        until = time.monotonic() + SLICE_SECONDS
        # What is on record as begun is begun whatever the time, or its end would be taken for one in the midst of it.
        while at < len(messages) and (time.monotonic() < until or course.begun):
            chunk = self._chunk(course, messages, at)
            end = at + len(chunk)
            part = Batch(batch.place, Claim(batch.claim.generation, position), chunk, _end(batch, end))
            try:
                position = self._handle(part, until, self._ahead(course, batch, end))
            except RetryLater as error:
                error.next_offset = position
                raise
            except SinkUnavailable as error:
                if position == batch.claim.next_offset:
                    raise
                raise RetryLater(str(error), seconds=self._handler.pauses[0], next_offset=position) from error
            at = end if position == part.end else bisect_left(messages, position, at, key=_offset)
        if not batch.messages:  # a seek
            with translated(), transaction.atomic(using=self.using):
                positions.advance([batch], self._keys, self.using)
            return batch.end
        return position

    def tick(self) -> None:
        super().tick()
        until = time.monotonic() + SLICE_SECONDS
        try:
            while time.monotonic() < until and (letters := deadletters.take(self.group, 1, self.using)):
                self._handle_letter(letters[0])
        except (DatabaseError, InterfaceError, SinkUnavailable) as error:
            logger.warning("letters not handled", extra={"action": "resend", "group": self.group, "error": str(error)})

    def overdue(self) -> str:
        return self._call.overdue()

    def _chunk(self, course: _Course, messages: Sequence[Any], at: int) -> Sequence[Any]:
        """The next messages of one transaction: those that fail, and those among which a process ended, stand alone."""
        first = _offset(messages[at])
        if first < course.alone_until or first in course.failed:
            return messages[at : at + 1]
        chunk = messages[at : at + course.limit]
        if course.failed:
            chunk = [message for message in chunk if _offset(message) < min(course.failed)]
        return chunk

    def _ahead(self, course: _Course, batch: Batch, at: int) -> int | None:
        """The end of the chunk after this one, where it is known and several messages."""
        more = min(len(batch.messages), at + min(self._most, course.limit * 2))
        if more - at < 2 or course.failed or _offset(batch.messages[at]) < course.alone_until:
            return None
        return _end(batch, more)

    def _handle(self, part: Batch, until: float, ahead: int | None) -> int:
        """Handle messages of this part in one transaction, or settle what becomes of a single one; give the position.

        It has not moved where they shall be cut smaller. ahead: the end of what comes next. Raises RetryLater, StaleOwner.
        """
        course = self._courses[part.place]
        begun, course.begun = course.begun, 0
        single = len(part.messages) == 1
        known = course.failed.pop(_offset(part.messages[0]), None)
        most = self._handler.tries
        if known is None and single and most is not None and course.tries >= most:
            known = Failure(ProcessEnded(" ".join((ProcessEnded.__doc__ or "").split())), None, final=True)
        tries = course.tries + 1 if single and known is None else course.tries
        end = part.end
        if known is None:
            if single or begun != part.end:
                with translated():
                    positions.try_from(part, self._keys[part.place], tries, self.using)
            try:
                end = self._call_in_transaction(part, until, ahead)
            except Failure as failure:
                known = failure
        elif not known.final:
            tries += 1  # it failed among others: that was its first try
            with translated():
                positions.try_from(part, self._keys[part.place], tries, self.using)
        if known is not None and not single:
            self._cut(course, part, known)
            return part.claim.next_offset
        if known is not None:
            course.tries = tries
            self._fail(part, known, tries)
        # As many as fit into a slice: after the end of a process so many are handled one by one.
        whole = end == part.end
        course.limit = min(self._most, course.limit * 2) if whole else bisect_left(part.messages, end, key=_offset)
        course.tries = 0
        return end

    def _call_in_transaction(self, part: Batch, until: float, ahead: int | None) -> int:
        """Call for these messages until the slice is over; give the position that the transaction has come to.

        Where there is time left, what comes next is recorded as begun in the same transaction, up to `ahead`.
        """
        end = part.end
        idle = (self._handler.timeout + LEEWAY_SECONDS) * 1000
        with translated(), self._transaction():
            positions.limit_waits(self.using, int(idle))
            # Before the first call, so that a stale owner calls nothing; the row stays ours until the commit.
            positions.advance([part], self._keys, self.using, ahead)
            found = repeats.find([part], lambda events: positions.seen(self.group, events, self.using))
            positions.unlimit_locks(self.using)
            (kept,) = found.batches
            handled = self._call(kept.messages, until) if kept.messages else 0
            if handled < len(kept.messages):
                end = _offset(kept.messages[handled])
                found = found.before(end)
            if end < part.end or (ahead and time.monotonic() >= until):
                ahead = None
                positions.stop_at(part, end, self._keys[part.place], self.using)
            positions.remember(self.group, found, self._keys, self.using)
        self._courses[part.place].begun = ahead or 0
        return end

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        began = time.monotonic()
        try:
            with transaction.atomic(using=self.using):
                yield
        finally:
            held, connection = time.monotonic() - began, connections[self.using]
            if held > LONG_SECONDS and connection.vendor == "sqlite" and not connection.in_atomic_block:
                time.sleep(min(held / 5, FREE_SECONDS))

    def _cut(self, course: _Course, part: Batch, failure: Failure) -> None:
        if failure.offset is None:
            course.limit = max(1, len(part.messages) // 2)
        else:
            course.failed[failure.offset] = failure
        logger.info(
            "cut",
            extra={"action": "handle", "group": self.group, "records": len(part.messages), "error": str(failure.error)},
        )

    def _fail(self, part: Batch, failure: Failure, tries: int) -> None:
        """One message has failed: raise RetryLater, or make it a dead letter."""
        (message,) = part.messages
        told = {
            "action": "handle",
            "group": self.group,
            "topic": part.place.topic,
            "partition": part.place.partition,
            "offset": _offset(message),
            "tries": tries,
            "error": str(failure.error),
        }
        where = f"{part.place.topic}[{part.place.partition}]@{_offset(message)}"
        if not failure.final and (self._handler.tries is None or tries < self._handler.tries):
            pause = self._handler.pause(tries)
            logger.warning("not handled", extra={**told, "pause": pause}, exc_info=failure.error)
            raise RetryLater(f"{where} failed {tries} times: {failure.error}", seconds=pause) from failure.error
        letter = deadletters.make(self.group, part.place, message, failure.error, tries)
        if self._handler.dead_letter is not None:
            try:
                deadletters.send(letter, self._handler.dead_letter)
            except TkError as error:
                self._courses[part.place].failed[_offset(message)] = Failure(failure.error, None, final=True)
                reason = f"{where} waits for the dead-letter topic {self._handler.dead_letter}: {error}"
                raise RetryLater(reason, seconds=self._handler.pauses[0]) from error
        with translated(), transaction.atomic(using=self.using):
            positions.limit_waits(self.using)
            positions.advance([part], self._keys, self.using)
            (kept,) = positions.without_repeats(self.group, [part], self._keys, self.using)
            if kept.messages:
                deadletters.store(letter, self.using)
        metrics.dead_letter(self.group)
        logger.error("dead letter", extra={**told, "letter": letter.pk}, exc_info=failure.error)

    def _handle_letter(self, letter: Any) -> None:
        try:
            with translated(), self._transaction():
                deadletters.settle(letter, self.using)
                self._call([deadletters.as_message(letter)], 0.0)
        except StaleOwner as error:
            logger.info("not settled", extra={"action": "resend", "group": self.group, "error": str(error)})
        except Failure as failure:
            logger.warning(
                "dead letter failed again",
                extra={"action": "resend", "group": self.group, "letter": letter.pk},
                exc_info=failure.error,
            )
            with translated():
                deadletters.fail_again(letter, failure.error, self.using)


def _end(batch: Batch, count: int) -> int:
    """The position after so many messages of the batch."""
    return batch.end if count == len(batch.messages) else _offset(batch.messages[count - 1]) + 1


def _offset(message: Any) -> int:
    return int(message.offset())
