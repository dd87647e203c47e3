"""What wakes a relay: PostgreSQL's NOTIFY, on a connection of its own; without it, time alone."""

import logging
import time
from typing import Any

from django.db import connections

from tk.conf import settings
from tk.outbox import CHANNEL

logger = logging.getLogger(__name__)

RETRY_SECONDS = 5.0


class Wake:
    """Waits for a commit. Behind a pooler that swallows NOTIFY, and on SQLite, it waits the whole time."""

    def __init__(self, using: str, channel: str = CHANNEL) -> None:
        self.using = using
        self.channel = channel
        self._connection: Any = None
        self._try_at = 0.0

    def wait(self, seconds: float) -> bool:
        """Return at a NOTIFY, at the latest after `seconds`; whether something may have been committed."""
        if connections[self.using].vendor != "postgresql":
            time.sleep(seconds)
            return False
        import psycopg

        try:
            if self._connection is None and time.monotonic() >= self._try_at:
                self._connection = self._listen()
                return True  # something may have been committed before this
            if self._connection is not None:
                return any(True for _ in self._connection.notifies(timeout=seconds, stop_after=1))
        except psycopg.Error as error:
            logger.warning("no NOTIFY", extra={"action": "relay", "error": str(error)})
            self._try_at = time.monotonic() + RETRY_SECONDS
            self.close()
        time.sleep(seconds)
        return False

    def come(self) -> bool:
        """Whether a NOTIFY is here, without waiting; False where there is none to be had."""
        return self._connection is not None and self.wait(0)

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _listen(self) -> Any:
        import psycopg

        given = settings.OUTBOX_LISTEN
        if given:
            made = psycopg.connect(given, autocommit=True)
        else:
            parameters = connections[self.using].get_connection_params()
            known = {
                name: value
                for name, value in parameters.items()
                if name not in {"context", "cursor_factory", "prepare_threshold", "server_side_binding"}
            }
            made = psycopg.connect(**known, autocommit=True)
        made.execute(f"LISTEN {self.channel}")
        return made
