"""What tells a reader that something was stored, by whichever process, without asking for rows."""

import threading
from typing import Self

from django.db import connections

from tk.wake import Wake
from tkcons import stored

# Seconds. On SQLite between two looks at the file's version (a few microseconds each); on PostgreSQL at most this long
# until somebody who has just come is noticed, for NOTIFY ends the wait.
LOOK_SECONDS = 0.01


class Changes:
    """For one thread, which closes it: on SQLite `PRAGMA data_version` on its own connection, on PostgreSQL LISTEN."""

    def __init__(self, using: str) -> None:
        self.using = using
        self._event = threading.Event()
        self._wake = Wake(using, stored.CHANNEL)
        self._version: int | None = None
        stored.listen(self._event)

    def wait(self, seconds: float = LOOK_SECONDS) -> bool:
        """Whether something may have been stored; looks for it for so long at most."""
        if connections[self.using].vendor == "postgresql":
            return self._wake.wait(seconds)
        told = self._event.wait(seconds)
        self._event.clear()
        return self._is_new_version() or told

    def _is_new_version(self) -> bool:
        """Whether another connection has committed; what comes through this one shows in no version."""
        if connections[self.using].vendor != "sqlite":
            return False
        with connections[self.using].cursor() as cursor:
            cursor.execute("PRAGMA data_version")
            version: int = cursor.fetchone()[0]
        changed, self._version = version != self._version, version
        return changed

    def disconnect(self) -> None:
        """Let the connections go; the next look makes them anew."""
        self._wake.close()
        connections[self.using].close()

    def close(self) -> None:
        stored.forget(self._event)
        self.disconnect()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *args: object) -> None:
        self.close()
