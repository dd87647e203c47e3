"""Groups run by a web process: the thread behind /tkcons.

For a newcomer, and where one process is enough. While a `manage.py consume` of a group has a heartbeat, that runs the
group; without one, the one web process that has the group's lease does. All threads end with the process.
"""

import atexit
import logging
import os
import threading

from django.conf import settings as django_settings
from django.db import DatabaseError, InterfaceError, close_old_connections, connections, reset_queries

from tkcons import groups
from tkcons.conf import settings
from tkcons.groups import Heartbeat
from tkcons.models import Group
from tkcons.processes import this_process
from tkcons.runner import Runner

logger = logging.getLogger(__name__)


class Supervisor:
    """Starts and stops this process's runners, as desired states, leases and other processes' heartbeats say."""

    def __init__(self) -> None:
        self.pid = os.getpid()
        self._owner = this_process()
        self._runners: dict[str, tuple[Runner, threading.Thread]] = {}
        self._wake = threading.Event()
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, name="tkcons-web", daemon=True)
        self._thread.start()

    def wake(self) -> None:
        """Look at once: somebody has just changed a desired state."""
        self._wake.set()

    def stop(self, seconds: float) -> None:
        """Stop every runner and wait for it, at most so long."""
        self._ending.set()
        self._wake.set()
        self._thread.join(seconds)

    def _run(self) -> None:
        try:
            while not self._ending.is_set():
                self._look()
                self._wake.wait(settings.HEARTBEAT_SECONDS)
                self._wake.clear()
        finally:
            self._stop_all()
            connections.close_all()

    def _look(self) -> None:
        try:
            wanted = set(Group.objects.exclude(desired=Group.State.STOPPED).values_list("name", flat=True)) & set(
                groups.specs()
            )
            for name in wanted:
                if groups.lease(name, self._owner):
                    self._ensure(name)
                else:
                    self._end(name)
            for name in set(self._runners) - wanted:
                self._end(name)
                groups.release(name, self._owner)
        except (DatabaseError, InterfaceError) as error:
            # The runners go on: they wait for the database themselves, and their writes are guarded by claims.
            logger.warning("no look at the groups", extra={"action": "supervise", "error": str(error)})
        reset_queries()
        close_old_connections()

    def _ensure(self, name: str) -> None:
        running = self._runners.get(name)
        if running is not None and running[0].hangs:
            running[0].stop()  # whenever it wakes; until then another one runs, whose claims are newer
        elif running is not None and running[1].is_alive():
            return
        runner = Runner(groups.spec(name), Heartbeat(name, in_web=True))
        thread = threading.Thread(target=runner.run, name=name, daemon=True)
        self._runners[name] = (runner, thread)
        thread.start()
        logger.info("started", extra={"action": "start", "group": name})

    def _end(self, name: str) -> None:
        running = self._runners.pop(name, None)
        if running is not None:
            running[0].stop()
            running[1].join(settings.STOP_SECONDS)

    def _stop_all(self) -> None:
        for runner, _ in self._runners.values():
            runner.stop()
        for _, thread in self._runners.values():
            thread.join(settings.STOP_SECONDS)
        try:
            for name in self._runners:
                groups.release(name, self._owner)
        except (DatabaseError, InterfaceError) as error:
            logger.info("leases not given back", extra={"action": "stop", "error": str(error)})
        self._runners.clear()


class _Process:
    """This process's supervisor, if it has one. One made before a fork is not the child's."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._supervisor: Supervisor | None = None

    def ensure(self) -> None:
        with self._lock:
            if self._supervisor is None or self._supervisor.pid != os.getpid():
                self._supervisor = Supervisor()
            self._supervisor.wake()

    def stop(self, seconds: float | None = None) -> None:
        with self._lock:
            made, self._supervisor = self._supervisor, None
        if made is not None and made.pid == os.getpid():
            made.stop(settings.STOP_SECONDS if seconds is None else seconds)


_process = _Process()
ensure_started = _process.ensure
stop = _process.stop
atexit.register(stop)


def resume() -> None:
    """At the start of a web process: go on with the groups that are wanted running, where RUN_IN_WEB allows it."""
    wanted = django_settings.DEBUG if settings.RUN_IN_WEB is None else settings.RUN_IN_WEB
    if wanted:
        ensure_started()
