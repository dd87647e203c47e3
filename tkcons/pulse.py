"""The heartbeat of a runner, on a thread of its own: a database that does not answer must not hold polling up."""

import logging
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from django.db import DatabaseError, InterfaceError, close_old_connections, connections, reset_queries

from tkcons.conf import settings
from tkcons.models import Group

if TYPE_CHECKING:
    from tkcons.runner import Control

logger = logging.getLogger(__name__)


class Pulse:
    """Reports every HEARTBEAT_SECONDS and keeps the group's desired state as last heard."""

    def __init__(
        self, group: str, control: "Control", report: Callable[[], tuple[str, list[dict[str, Any]], int, str]]
    ) -> None:
        self.desired: Group.State = Group.State.STOPPED
        self._control = control
        self._report = report
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"{group}-pulse", daemon=True)

    def start(self) -> None:
        """Beat once, so that the desired state is known, then go on in the background."""
        self._beat()
        self._thread.start()

    def end(self) -> None:
        """Take the member's row away and stop."""
        self._ending.set()
        self._thread.join(settings.STOP_SECONDS)

    def _run(self) -> None:
        try:
            while not self._ending.wait(settings.HEARTBEAT_SECONDS):
                self._beat()
                reset_queries()
                close_old_connections()
            self._control.end()
        except (DatabaseError, InterfaceError) as error:
            logger.info("heartbeat not taken away", extra={"action": "beat", "error": str(error)})
        finally:
            connections.close_all()

    def _beat(self) -> None:
        try:
            self.desired = self._control.beat(*self._report())
        except (DatabaseError, InterfaceError) as error:
            logger.warning("no heartbeat", extra={"action": "beat", "error": str(error)})
            close_old_connections()
        except Exception:  # without its heartbeat a runner counts as gone: tell it, and go on
            logger.exception("no heartbeat", extra={"action": "beat"})
