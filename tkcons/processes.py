"""Child processes that share a group's work: started, restarted with growing pauses when they die, ended together."""

import logging
import os
import signal
import socket
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass

from tkcons.conf import settings

logger = logging.getLogger(__name__)

STABLE_SECONDS = 60.0  # a child that lived so long starts again with the shortest pause


def this_process() -> str:
    """For people: host:pid."""
    return f"{socket.gethostname()[:60]}:{os.getpid()}"


@dataclass
class _Child:
    command: Sequence[str]
    process: subprocess.Popen[bytes] | None = None
    started: float = 0.0
    failures: int = 0
    start_at: float = 0.0


class Children:
    """Runs a process for each command until SIGTERM or SIGINT."""

    def __init__(self, commands: Sequence[Sequence[str]]) -> None:
        self._children = [_Child(command) for command in commands]
        self._ending = False

    def run(self) -> None:
        """Return when every child has ended; children that outlive STOP_SECONDS are killed."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._end)
        while not self._ending:
            for child in self._children:
                self._look(child)
            time.sleep(0.1)
        alive = [child.process for child in self._children if child.process is not None]
        for process in alive:
            process.send_signal(signal.SIGTERM)
        deadline = time.monotonic() + settings.STOP_SECONDS + 5
        for process in alive:
            try:
                process.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def _end(self, *_: object) -> None:
        self._ending = True

    def _look(self, child: _Child) -> None:
        now = time.monotonic()
        if child.process is not None and child.process.poll() is not None:
            lived = now - child.started
            child.failures = 0 if lived > STABLE_SECONDS else child.failures + 1
            first, longest = settings.RETRY_SECONDS
            child.start_at = now + min(longest, first * 2 ** min(max(0, child.failures - 1), 10))
            logger.warning(
                "child died", extra={"action": "supervise", "pid": child.process.pid, "code": child.process.returncode}
            )
            child.process = None
        if child.process is None and now >= child.start_at and not self._ending:
            # A session of its own: the terminal's Ctrl-C reaches this process alone, which ends the children in order.
            child.process = subprocess.Popen(child.command, env=os.environ.copy(), start_new_session=True)
            child.started = now
