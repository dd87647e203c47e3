"""Deadlines of an event loop's requests: one timer for all of them, which looks now and then."""

import asyncio
from collections import deque
from collections.abc import Callable

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
        deadline = Deadline(self._loop.time() + settings.REQUEST_TIMEOUT, late)
        self._add(deadline)
        return deadline

    def within(self, error: type[Exception]) -> "_Within":
        """A block of the running task, which is left with the error after REQUEST_TIMEOUT."""
        task = asyncio.current_task(self._loop)  # without the argument Python 3.11 asks the kernel for the process id
        assert task is not None  # noqa: S101  it is called in coroutines
        deadline = _Within(self._loop.time() + settings.REQUEST_TIMEOUT, task, error)
        self._add(deadline)
        return deadline

    def _add(self, deadline: Deadline) -> None:
        if not self._set:
            self._loop.call_later(WATCH_SECONDS, self._look)
        self._set.append(deadline)

    def _look(self) -> None:
        now = self._loop.time()
        while self._set and (self._set[0].late is None or self._set[0].at < now):
            deadline = self._set.popleft()
            if deadline.late is not None:
                deadline.missed = True
                deadline.late()
        if self._set:
            self._loop.call_later(WATCH_SECONDS, self._look)


class _Within(Deadline):
    __slots__ = ("_error", "_task")

    def __init__(self, at: float, task: "asyncio.Task[object]", error: type[Exception]) -> None:
        super().__init__(at, task.cancel)
        self._task = task
        self._error = error

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type[BaseException] | None, *args: object) -> None:
        self.met()
        # The task may have been cancelled by the server as well: then it stays so.
        if kind is asyncio.CancelledError and self.missed and not self._task.uncancel():
            raise self._error from None
