"""A runner: one consumer group in one process, obeying the group's desired state until it is stopped."""

import logging
import threading
import time
from collections.abc import Callable
from typing import Any, Protocol

from confluent_kafka import KafkaException
from django.db import connections

from tk import clock
from tk.errors import TkError
from tkcons import metrics
from tkcons.conf import settings
from tkcons.errors import HandlerOverdue, SinkLocked, TkconsError
from tkcons.groups import Spec
from tkcons.models import Group
from tkcons.pulse import Pulse
from tkcons.session import Session

logger = logging.getLogger(__name__)

IDLE_SECONDS = 0.1  # between looks at the desired state while the group is stopped
HANG_SECONDS = 3.0  # beside REVOKE_SECONDS: a poll that has not returned by then does not return
STANDBY_SECONDS = 2.0  # between tries to take a sink over that another process writes to


class Control(Protocol):
    """Where a runner reports and what it obeys; see tkcons.groups.Heartbeat."""

    def beat(self, state: str, partitions: list[dict[str, Any]], stored: int, error: str) -> Group.State: ...

    def end(self) -> None: ...


class Runner:
    """Runs a group until `stop`.

    static_id: this member's name in static membership. on_hang: called when a handler or a poll does not return; only the
    end of the process ends it. hangs: that is so.
    """

    def __init__(
        self, spec: Spec, control: Control, *, static_id: str = "", on_hang: Callable[[], None] | None = None
    ) -> None:
        self.spec = spec
        self.state = "starting"
        self.error = ""
        self._static_id = static_id
        self.hangs = False
        self._on_hang = on_hang
        self._ending = threading.Event()
        self._pulse = Pulse(spec.name, control, self._report)
        self._session: Session | None = None
        self._stored_before = 0
        clock.watch(self._clock_put_back)

    def stop(self) -> None:
        """Ask for the end; `run` returns when the batch in hand is stored and the offsets are committed."""
        self._ending.set()

    def run(self) -> None:
        """Store until `stop`. Failures are told in the heartbeat and tried again with growing pauses."""
        failures = 0
        self._pulse.start()
        try:
            while not self._ending.is_set():
                if self._pulse.desired == Group.State.STOPPED:
                    self.state = "stopped"
                    self._ending.wait(IDLE_SECONDS)
                    continue
                began = time.monotonic()
                try:
                    self._run_session()
                except Exception as error:
                    if not isinstance(error, (TkconsError, TkError, KafkaException)):  # a defect, of a sink's perhaps
                        logger.exception("interrupted", extra={"action": "run", "group": self.spec.name})
                    failures = 0 if time.monotonic() - began > settings.RETRY_SECONDS[1] else failures + 1
                    self._rest(error, failures)
        finally:
            self.state = "stopped"
            self._pulse.end()
            connections.close_all()

    def _rest(self, error: Exception, failures: int) -> None:
        first, longest = settings.RETRY_SECONDS
        pause = min(longest, first * 2 ** min(failures - 1, 10))
        self.state = "waiting" if isinstance(error, SinkLocked) else "failed"
        if str(error) != self.error or not isinstance(error, SinkLocked):  # a standby is told once
            logger.warning(
                "interrupted", extra={"action": "run", "group": self.spec.name, "error": str(error), "pause": pause}
            )
        self.error = str(error)
        if isinstance(error, HandlerOverdue) and self._on_hang is not None:
            self._on_hang()
        self._ending.wait(min(pause, STANDBY_SECONDS) if isinstance(error, SinkLocked) else pause)

    def _run_session(self) -> None:
        sink = self.spec.sink()
        sink.open()
        try:
            session = self._session = Session(self.spec, sink, self._static_id)
            self.state, self.error = "running", ""
            metrics.watch(self.spec.name, session.partitions)
            try:
                session.run(self._wanted)
            finally:
                metrics.forget(self.spec.name)
                self._session = None
                self._stored_before += session.assignment.stored
        finally:
            sink.close()

    def _clock_put_back(self) -> None:
        """The session begins anew with another consumer, unless it waits in a poll for which nothing comes."""
        if (session := self._session) is not None:
            session.outdated = True
            looking = threading.Timer(settings.REVOKE_SECONDS + HANG_SECONDS, self._look_for_end, [session])
            looking.daemon = True
            looking.start()

    def _look_for_end(self, session: Session) -> None:
        if self._session is not session or session.ending:
            return
        self.hangs = True
        self.error = "Polling stands still since the clock was put back."
        logger.error("hangs", extra={"action": "run", "group": self.spec.name, "error": self.error})
        if self._on_hang is not None:
            self._on_hang()
        self._pulse.end()  # it is no live member

    def _wanted(self) -> str:
        if self._ending.is_set():
            return Group.State.STOPPED
        self.state = "paused" if self._pulse.desired == Group.State.PAUSED else "running"
        return self._pulse.desired

    def _report(self) -> tuple[str, list[dict[str, Any]], int, str]:
        session = self._session
        if session is None:
            return self.state, [], self._stored_before, self.error
        stored = self._stored_before + session.assignment.stored
        return self.state, session.partitions(), stored, session.error or session.worker.error
