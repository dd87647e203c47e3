"""What a relay does beside sending: the next events are read on a thread and a connection of their own."""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

from django.db import connections

from tk.database import keep_connections
from tk.store import Event

Work = Callable[[], list[Event]]


class Ahead:
    """One piece of work at a time; the thread is there once there is work."""

    def __init__(self, using: str) -> None:
        self.using = using
        self._pool: ThreadPoolExecutor | None = None
        self._work: Future[list[Event]] | None = None

    def begin(self, work: Work) -> None:
        """Do it while the caller goes on; `take` comes before the next."""
        if self._pool is None:
            self._pool = ThreadPoolExecutor(1, thread_name_prefix="tk-relay-ahead")
        self._work = self._pool.submit(self._do, work)

    def take(self) -> list[Event] | None:
        """Wait for what was begun and give its events; None: nothing was. Raises what the work raised."""
        work, self._work = self._work, None
        return None if work is None else work.result()

    def close(self) -> None:
        """End the thread and its connection."""
        if self._pool is not None:
            self._pool.submit(self._disconnect)
            self._pool.shutdown()
            self._pool = None

    def _do(self, work: Work) -> list[Event]:
        keep_connections()
        try:
            return work()
        except Exception:
            self._disconnect()
            raise

    def _disconnect(self) -> None:
        connections[self.using].close()
