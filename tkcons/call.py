"""A handler's function and how it is called: values decoded, time bounded, its failures told from the database's."""

import asyncio
import time
from collections.abc import Sequence
from typing import Any

from asgiref.sync import async_to_sync
from confluent_kafka import Message
from django.db import DatabaseError, InterfaceError, OperationalError, connections

from tkcons.errors import Reject, SinkUnavailable
from tkcons.handlers import Handler
from tkcons.received import Messages, Received

QUERY_CANCELED = "57014"  # SQLSTATE; by statement_timeout, which is the statement's fault
LEEWAY_SECONDS = 15.0  # beyond the timeout, until what hangs is given up from outside


class Failure(Exception):
    """What a handler or a decoder raised. offset: of the message, if that is known; final: no other try."""

    def __init__(self, error: BaseException, offset: int | None, *, final: bool = False) -> None:
        super().__init__(str(error))
        self.error = error
        self.offset = offset
        self.final = final


class Call:
    """Calls a handler in the transaction that is open on `using`."""

    def __init__(self, handler: Handler, using: str) -> None:
        self._handler = handler
        self._using = using
        self._began = 0.0  # monotonic, while a call is under way
        self._run = async_to_sync(self._run_async) if handler.is_async else self._run_sync

    def __call__(self, messages: Sequence[Any], until: float) -> int:
        """Decode the messages and call; give how many have been handled, at least one.

        until: monotonic; messages that are taken singly are called until then, a batch is one call.
        Raises Failure, and SinkUnavailable where the database, or what a decoder needs, is what failed.
        """
        try:
            return self._run(self._decode(messages), until)
        finally:
            self._began = 0.0

    def overdue(self) -> str:
        """That the call under way has outlived its timeout, if it has."""
        began, limit = self._began, self._handler.timeout
        # An async function is cancelled at its timeout, unless it blocks its loop.
        if began and time.monotonic() - began > limit + (LEEWAY_SECONDS if self._handler.is_async else 0):
            return f"{self._handler.name} has not returned within its timeout of {limit:g} s."
        return ""

    def _decode(self, messages: Sequence[Any]) -> Messages:
        decode = self._handler.decode
        if decode is Message.value:
            return Messages(messages)
        try:
            return Messages(messages, list(map(decode, messages)))
        except Exception:  # noqa: BLE001  whatever a decoder raises: below it is told of which message
            values = []
            for message in messages:
                try:
                    values.append(decode(message))
                except SinkUnavailable:
                    raise
                except Exception as error:
                    raise Failure(error, int(message.offset()), final=True) from error
            return Messages(messages, values)

    def _run_sync(self, received: Messages, until: float) -> int:
        function = self._handler.function
        handled, each = 0, None
        try:
            self._began = time.monotonic()
            if self._handler.batch is not None:
                function(received)
                return len(received)
            for handled, each in enumerate(received, 1):  # noqa: B007  the last one is told
                function(each)
                self._began = time.monotonic()
                if self._began >= until:
                    break
        except (Exception, SystemExit) as error:
            raise self._failure(error, each) from error
        return handled

    async def _run_async(self, received: Messages, until: float) -> int:
        """async_to_sync gives the handler this thread's database connection: what it writes is in the transaction."""
        function, timeout = self._handler.function, self._handler.timeout
        handled, each = 0, None
        try:
            self._began = time.monotonic()
            if self._handler.batch is not None:
                async with asyncio.timeout(timeout):
                    await function(received)
                return len(received)
            for handled, each in enumerate(received, 1):  # noqa: B007
                async with asyncio.timeout(timeout):
                    await function(each)
                self._began = time.monotonic()
                if self._began >= until:
                    break
        except (Exception, SystemExit) as error:
            raise self._failure(error, each) from error
        return handled

    def _failure(self, error: BaseException, received: Received | None) -> Exception:
        """The database's outage as SinkUnavailable, which is no message's fault; everything else as a failure."""
        if isinstance(error, (OperationalError, InterfaceError)) and self._is_outage(error):
            return SinkUnavailable(f"The database failed {self._handler.name}: {error}")
        if isinstance(error, Reject):
            received = error.received or received
            return Failure(error, received.offset if received else None, final=True)
        return Failure(error, received.offset if received else None)

    def _is_outage(self, error: DatabaseError | InterfaceError) -> bool:
        connection = connections[self._using]
        if connection.vendor == "sqlite":
            return "locked" in str(error) or "busy" in str(error)
        # Connections, serialization and deadlock, administrator's doings, resources: SQLSTATE classes of PostgreSQL.
        state = str(getattr(error.__cause__, "sqlstate", None) or "")
        lost = bool(getattr(connection.connection, "closed", True))
        return lost or (state[:2] in {"08", "40", "53", "57"} and state != QUERY_CANCELED)
