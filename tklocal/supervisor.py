"""`make run`: the broker, the web server and the consumer as processes of one terminal.

Written here because the process managers at hand either restart nothing (honcho) or are daemons with files of their own
(supervisor, circus); this needs restarts with growing pauses, an order, and no process left behind.
"""

import contextlib
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TextIO

from tklocal.child import Child

PAUSES = (0.5, 10.0)  # seconds before a restart: the first, the longest
STABLE_SECONDS = 30.0  # a part that lived so long starts again with the shortest pause
COLOURS = {"kafka": 36, "web": 33, "consumer": 35, "migrate": 34, "relay": 31}  # ANSI


@dataclass
class Part:
    """A process that is kept running. seconds: how long it may take to end."""

    name: str
    command: Sequence[str]
    seconds: float = 10
    child: Child | None = None
    failures: int = 0
    started: float = 0.0
    start_at: float = 0.0
    readers: list[threading.Thread] = field(default_factory=list)


class Supervisor:
    """Starts parts, shows what they print, restarts those that die, ends them in the reverse order."""

    def __init__(self, output: TextIO) -> None:
        self.parts: list[Part] = []
        self._output = output
        self._lock = threading.Lock()

    def add(self, part: Part) -> None:
        """Start a part and keep it running from now on."""
        self.parts.append(part)
        self._start(part)

    def say(self, text: str, name: str = "run") -> None:
        """Show lines with the part's name before each."""
        colour = COLOURS.get(name, 32)
        label = f"{name:>8} |"
        if self._output.isatty():
            label = f"\033[{colour}m{label}\033[0m"
        with self._lock, contextlib.suppress(OSError):  # the terminal was closed: the parts still end in order
            for line in text.splitlines():
                self._output.write(f"{label} {line}\n")
            self._output.flush()

    def look(self) -> None:
        """Restart what has died and whose pause is over. Call often."""
        now = time.monotonic()
        for part in self.parts:
            if part.child is not None and not part.child.alive:
                self._on_death(part, now)
            if part.child is None and now >= part.start_at:
                self._start(part)

    def run_once(self, name: str, command: Sequence[str], stop: Callable[[], bool]) -> int:
        """Run a command to its end, or until `stop()`; give its exit code."""
        child = Child(command, None)
        reader = self._read(name, child)
        while child.alive and not stop():
            self.look()
            time.sleep(0.05)
        code = child.stop(5) if child.alive else child.wait()
        reader.join(5)
        return code

    def stop(self) -> None:
        """End the parts, the last one first, each within its seconds."""
        for part in reversed(self.parts):
            if part.child is not None:
                self.say("ending", part.name)
                part.child.stop(part.seconds)
                for reader in part.readers:
                    reader.join(2)
                part.child = None

    def _start(self, part: Part) -> None:
        part.started = time.monotonic()
        part.child = Child(part.command, None)
        part.readers = [self._read(part.name, part.child)]

    def _on_death(self, part: Part, now: float) -> None:
        assert part.child is not None  # noqa: S101
        code = part.child.wait()
        part.child = None
        part.failures = 1 if now - part.started > STABLE_SECONDS else part.failures + 1
        first, longest = PAUSES
        pause = min(longest, first * 2 ** min(part.failures - 1, 10))
        part.start_at = now + pause
        how = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
        self.say(f"ended by {how}; starts again in {pause:g} s", part.name)

    def _read(self, name: str, child: Child) -> threading.Thread:
        def show() -> None:
            assert child.process.stdout is not None  # noqa: S101  Child(log=None) pipes it
            with child.process.stdout as stream:
                for line in stream:
                    self.say(line.decode(errors="replace").rstrip("\n"), name)

        reader = threading.Thread(target=show, name=f"{name}-output", daemon=True)
        reader.start()
        return reader


def manage(*arguments: str) -> list[str]:
    """The command line of a management command of this project."""
    return [sys.executable, sys.argv[0], *arguments]
