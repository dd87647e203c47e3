"""Deadlines of an event loop's requests: one timer for all of them, which looks now and then."""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any

from tk.conf import settings

WATCH_SECONDS = 0.25


class Deadline:
    """A time by which something is done; `late` is called where it is not."""

    __slots__ = ("at", "late", "missed")

    def __init__(self, at: float, late: Callable[[], object]) -> None:
        self.at = at
        self.late: Callable[[], object] | None = late
        self.missed = False

    def met(self) -> None:
        """It is done."""
        self.late = None


class Deadlines:
    """REQUEST_TIMEOUT for each of a loop's requests, kept to within WATCH_SECONDS; asyncio's own timers cost more than
    reading the request."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._set: deque[Deadline] = deque()  # in the order of their times

    def set(self, late: Callable[[], object]) -> Deadline:
        """REQUEST_TIMEOUT from now."""
        if not self._set:
            self._loop.call_later(WATCH_SECONDS, self._look)
        deadline = Deadline(self._loop.time() + settings.REQUEST_TIMEOUT, late)
        self._set.append(deadline)
        return deadline

    def current_task(self) -> asyncio.Task[Any]:
        """The task that runs now, on this loop."""
        task = asyncio.current_task(self._loop)  # without the argument Python 3.11 asks the kernel for the process id
        assert task is not None  # noqa: S101  this is called in coroutines
        return task

    def _look(self) -> None:
        now = self._loop.time()
        while self._set and (self._set[0].late is None or self._set[0].at < now):
            deadline = self._set.popleft()
            if deadline.late is not None:
                deadline.missed = True
                deadline.late()
        if self._set:
            self._loop.call_later(WATCH_SECONDS, self._look)
