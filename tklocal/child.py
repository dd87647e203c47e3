"""A server's process that never outlives the process that started it."""

import contextlib
import os
import pwd
import signal as signals
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

# Reads a pipe whose other end its owner holds; the kernel closes that end when the owner dies, by kill -9 too.
# PR_SET_PDEATHSIG would do on Linux alone, and fires when the starting *thread* ends.
# The whole session is killed: granian's workers would outlive their master.
GUARD = 'read _; kill -KILL "-$1" 2>/dev/null'


class Child:
    """Runs a command in a session of its own: a terminal's Ctrl-C does not reach it.

    log: the file that its output is appended to; None: the output is read from `process.stdout`.
    user: the account that it runs as, when this process is root.
    """

    def __init__(
        self,
        command: Sequence[str | Path],
        log: Path | None,
        *,
        env: Mapping[str, str] | None = None,
        user: str | None = None,
    ) -> None:
        with contextlib.ExitStack() as stack:
            self.process = subprocess.Popen(
                [str(part) for part in command],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE if log is None else stack.enter_context(log.open("ab")),
                stderr=subprocess.STDOUT,
                start_new_session=True,
                env=None if env is None else {**os.environ, **env},
                user=user,
                group=None if user is None else pwd.getpwnam(user).pw_gid,
                extra_groups=None if user is None else [],
            )
        self._guard = subprocess.Popen(
            ["sh", "-c", GUARD, "sh", str(self.process.pid)],
            stdin=subprocess.PIPE,
            start_new_session=True,
        )

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def alive(self) -> bool:
        return self.process.poll() is None

    def signal(self, number: int) -> None:
        """Send a signal, unless the process is gone."""
        self.process.send_signal(number)

    def stop(self, seconds: float, number: int = signals.SIGTERM) -> int:
        """Ask it to end, wait, then kill it; give its exit code."""
        self.signal(number)
        self.signal(signals.SIGCONT)  # a paused process cannot end
        try:
            self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.process.kill()
        return self.wait()

    def wait(self) -> int:
        """Wait for the end, and let the guard go: the process id may become another's."""
        code = self.process.wait()
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signals.SIGKILL)  # what a dead master left behind
        self._guard.kill()
        self._guard.communicate()
        return code
