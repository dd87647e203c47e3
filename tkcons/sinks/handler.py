"""The sink behind `@handler`: a function is called in the transaction that moves the position."""

import asyncio
import logging
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from asgiref.sync import async_to_sync
from django.db import DatabaseError, InterfaceError, OperationalError, connections, transaction

from tk.errors import TkError
from tkcons import deadletters, positions
from tkcons.errors import Reject, RetryLater, SinkUnavailable, StaleOwner
from tkcons.handlers import Handler
from tkcons.received import Received
from tkcons.sinks.base import Batch, Claim, Place
from tkcons.sinks.database import PositionedSink, translated

logger = logging.getLogger(__name__)

SLICE_SECONDS = 1.0  # how long one write goes on before other partitions, a revoke or a stop have their turn
CALL_MESSAGES = 1_000  # of one transaction, where the handler takes messages singly
LETTERS = 100  # dead letters handled again before messages have their turn
QUERY_CANCELED = "57014"  # SQLSTATE; by statement_timeout, which is the statement's fault
LEEWAY_SECONDS = 15.0  # beyond the timeout, until PostgreSQL ends the transaction of a handler that hangs


class _Failure(Exception):
    """What a handler or a decoder raised. offset: of the message, if that is known; final: no other try."""

    def __init__(self, error: BaseException, offset: int | None, *, final: bool = False) -> None:
        super().__init__(str(error))
        self.error = error
        self.offset = offset
        self.final = final


class ProcessEnded(Exception):
    """The process ended, or was given up, while it handled this message."""


@dataclass
class _Course:
    """How a partition is being handled.

    alone_until: messages before this offset are handled one by one: a process ended among them. tries: begun and not
    finished, of the message at the position. limit: messages of the next transaction. failed: what is known to fail.
    """

    limit: int
    alone_until: int = 0
    tries: int = 0
    failed: dict[int, _Failure] = field(default_factory=dict)


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
        self._called_at = 0.0  # monotonic, while a call is under way

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
        position = batch.claim.next_offset
        ends = time.monotonic() + SLICE_SECONDS
        messages = list(batch.messages)
        while messages and time.monotonic() < ends:
            chunk = self._chunk(self._courses[batch.place], messages)
            end = batch.end if len(chunk) == len(messages) else _offset(chunk[-1]) + 1
            part = Batch(batch.place, Claim(batch.claim.generation, position), chunk, end)
            try:
                done = self._handle(part)
            except RetryLater as error:
                error.next_offset = position
                raise
            except SinkUnavailable as error:
                if position == batch.claim.next_offset:
                    raise
                raise RetryLater(str(error), seconds=self._handler.pauses[0], next_offset=position) from error
            if done:
                position = end
                del messages[: len(chunk)]
        if not batch.messages:  # a seek
            with translated(), transaction.atomic(using=self.using):
                positions.advance([batch], self._keys, self.using)
            return batch.end
        return position

    def tick(self) -> None:
        super().tick()
        try:
            for letter in deadletters.take(self.group, LETTERS, self.using):
                self._handle_letter(letter)
        except (DatabaseError, InterfaceError, SinkUnavailable) as error:
            logger.warning("letters not handled", extra={"action": "resend", "group": self.group, "error": str(error)})

    def overdue(self) -> str:
        called_at = self._called_at
        # An async function is cancelled at its timeout, unless it blocks its loop.
        limit = self._handler.timeout + (LEEWAY_SECONDS if self._handler.is_async else 0)
        if called_at and time.monotonic() - called_at > limit:
            return f"{self._handler.name} has not returned within its timeout of {self._handler.timeout:g} s."
        return ""

    def _chunk(self, course: _Course, messages: list[Any]) -> list[Any]:
        """The next messages of one transaction: those that fail, and those among which a process ended, stand alone."""
        first = _offset(messages[0])
        if first < course.alone_until or first in course.failed:
            return messages[:1]
        chunk = messages[: course.limit]
        if course.failed:
            chunk = [message for message in chunk if _offset(message) < min(course.failed)]
        return chunk

    def _handle(self, part: Batch) -> bool:
        """Handle the messages in one transaction; False: they shall be cut smaller. Raises RetryLater, StaleOwner."""
        course = self._courses[part.place]
        single = len(part.messages) == 1
        known = course.failed.pop(_offset(part.messages[0]), None)
        most = self._handler.tries
        if known is None and single and most is not None and course.tries >= most:
            known = _Failure(ProcessEnded(" ".join((ProcessEnded.__doc__ or "").split())), None, final=True)
        tries = course.tries + 1 if single and known is None else course.tries
        if known is None:
            with translated():
                positions.try_from(part, self._keys[part.place], tries, self.using)
            known = self._call_in_transaction(part)
        elif not known.final:
            tries += 1  # it failed among others: that was its first try
            with translated():
                positions.try_from(part, self._keys[part.place], tries, self.using)
        if known is None:
            course.tries, course.limit = 0, min(self._most, course.limit * 2)
            return True
        if not single:
            self._cut(course, part, known)
            return False
        course.tries = tries
        self._fail(part, known, tries)
        course.tries, course.limit = 0, min(self._most, course.limit * 2)
        return True

    def _call_in_transaction(self, part: Batch) -> _Failure | None:
        idle = (self._handler.timeout + LEEWAY_SECONDS) * 1000
        try:
            with translated(), transaction.atomic(using=self.using):
                positions.limit_waits(self.using, int(idle))
                positions.advance([part], self._keys, self.using)
                (kept,) = positions.without_repeats(self.group, [part], self._keys, self.using)
                positions.unlimit_locks(self.using)
                if kept.messages:
                    self._call(kept.messages)
        except _Failure as failure:
            return failure
        return None

    def _cut(self, course: _Course, part: Batch, failure: _Failure) -> None:
        if failure.offset is None:
            course.limit = max(1, len(part.messages) // 2)
        else:
            course.failed[failure.offset] = failure
        logger.info(
            "cut",
            extra={"action": "handle", "group": self.group, "records": len(part.messages), "error": str(failure.error)},
        )

    def _fail(self, part: Batch, failure: _Failure, tries: int) -> None:
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
                self._courses[part.place].failed[_offset(message)] = _Failure(failure.error, None, final=True)
                reason = f"{where} waits for the dead-letter topic {self._handler.dead_letter}: {error}"
                raise RetryLater(reason, seconds=self._handler.pauses[0]) from error
        with translated(), transaction.atomic(using=self.using):
            positions.limit_waits(self.using)
            positions.advance([part], self._keys, self.using)
            (kept,) = positions.without_repeats(self.group, [part], self._keys, self.using)
            if kept.messages:
                deadletters.store(letter, self.using)
        logger.error("dead letter", extra={**told, "letter": letter.pk}, exc_info=failure.error)

    def _handle_letter(self, letter: Any) -> None:
        try:
            with translated(), transaction.atomic(using=self.using):
                deadletters.settle(letter, self.using)
                self._call([deadletters.as_message(letter)])
        except StaleOwner as error:
            logger.info("not settled", extra={"action": "resend", "group": self.group, "error": str(error)})
        except _Failure as failure:
            logger.warning(
                "dead letter failed again",
                extra={"action": "resend", "group": self.group, "letter": letter.pk},
                exc_info=failure.error,
            )
            with translated():
                deadletters.fail_again(letter, failure.error, self.using)

    def _call(self, messages: Sequence[Any]) -> None:
        """Decode and call. Raises _Failure, and SinkUnavailable where the database is what failed."""
        received = self._decode(messages)
        call = async_to_sync(self._call_async) if self._handler.is_async else self._call_sync
        try:
            call(received)
        finally:
            self._called_at = 0.0

    def _decode(self, messages: Sequence[Any]) -> list[Received]:
        try:
            return list(map(Received, messages, map(self._handler.decode, messages)))
        except Exception:  # noqa: BLE001  whatever a decoder raises: below it is told of which message
            received = []
            for message in messages:
                try:
                    received.append(Received(message, self._handler.decode(message)))
                except Exception as error:
                    raise _Failure(error, _offset(message), final=True) from error
            return received

    def _call_sync(self, received: list[Received]) -> None:
        function = self._handler.function
        offset = None
        try:
            if self._handler.batch is not None:
                self._called_at = time.monotonic()
                function(received)
                return
            for each in received:
                self._called_at = time.monotonic()
                offset = each
                function(each)
        except (Exception, SystemExit) as error:
            raise self._failure(error, offset) from error

    async def _call_async(self, received: list[Received]) -> None:
        """async_to_sync gives the handler this thread's database connection: what it writes is in the transaction."""
        function, timeout = self._handler.function, self._handler.timeout
        offset = None
        try:
            self._called_at = time.monotonic()
            if self._handler.batch is not None:
                async with asyncio.timeout(timeout):
                    await function(received)
                return
            for each in received:
                self._called_at = time.monotonic()
                offset = each
                async with asyncio.timeout(timeout):
                    await function(each)
        except (Exception, SystemExit) as error:
            raise self._failure(error, offset) from error

    def _failure(self, error: BaseException, received: Received | None) -> Exception:
        """The database's outage as SinkUnavailable, which is no message's fault; everything else as a failure."""
        if isinstance(error, (OperationalError, InterfaceError)) and self._is_outage(error):
            return SinkUnavailable(f"The database failed {self._handler.name}: {error}")
        if isinstance(error, Reject):
            received = error.received or received
            return _Failure(error, received.offset if received else None, final=True)
        return _Failure(error, received.offset if received else None)

    def _is_outage(self, error: DatabaseError | InterfaceError) -> bool:
        connection = connections[self.using]
        if connection.vendor == "sqlite":
            return "locked" in str(error) or "busy" in str(error)
        # Connections, serialization and deadlock, administrator's doings, resources: SQLSTATE classes of PostgreSQL.
        state = str(getattr(error.__cause__, "sqlstate", None) or "")
        lost = bool(getattr(connection.connection, "closed", True))
        return lost or (state[:2] in {"08", "40", "53", "57"} and state != QUERY_CANCELED)


def _offset(message: Any) -> int:
    return int(message.offset())
