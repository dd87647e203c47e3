"""The wall clock is put back: Kafka clients that wait by it must be woken.

librdkafka waits until times of the wall clock (https://github.com/confluentinc/librdkafka/issues/2145). Waits under way
when it is put back by an hour last an hour longer, unless something ends them: those for a message, for the next heartbeat
of the group, for a new look at the leaders. A clock that is put forward ends waits early, and they begin anew: no harm.
"""

import logging
import os
import threading
import time
import weakref
from collections.abc import Callable
from typing import Any

from confluent_kafka import KafkaException

logger = logging.getLogger(__name__)

STEP_SECONDS = 2.0  # put back by more is a step; a clock that is slewed loses half a millisecond a second
LOOK_SECONDS = 1.0
ANSWER_SECONDS = 2.0  # how long a question that wakes a client may take


def wake(client: Any) -> None:
    """Ask the brokers something: the answer goes through the thread of the client that does all but its requests."""
    try:
        client.list_topics(timeout=ANSWER_SECONDS)
    except KafkaException as error:
        logger.info("no answer", extra={"action": "clock", "error": error.args[0].str()})


def ahead() -> float:
    """Seconds by which the wall clock is ahead of the monotonic one."""
    return time.time() - time.monotonic()


class Watch:
    """Looks each second, on a thread that lives while there is somebody to be told."""

    def __init__(self, ahead: Callable[[], float] = ahead, look_seconds: float = LOOK_SECONDS) -> None:
        self._ahead = ahead
        self._look_seconds = look_seconds
        self.forget()

    def forget(self) -> None:
        """Begin anew: in a child after a fork there is no thread, and the lock may be held."""
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._methods: list[weakref.WeakMethod[Callable[[], None]]] = []

    def tell(self, put_back: Callable[[], None]) -> None:
        """Call this bound method when the clock was put back, as long as its object lives. Not on the caller's thread."""
        with self._lock:
            self._methods.append(weakref.WeakMethod(put_back))
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="wall-clock", daemon=True)
                self._thread.start()

    def _run(self) -> None:
        before = self._ahead()
        while self._alive():
            time.sleep(self._look_seconds)  # by the monotonic clock; an Event may wait by the other one
            now = self._ahead()
            if before - now > STEP_SECONDS:
                logger.warning("the clock was put back", extra={"action": "clock", "seconds": round(before - now, 1)})
                self._tell()
            before = now

    def _tell(self) -> None:
        for put_back in self._alive():
            try:
                put_back()
            except Exception:  # of one client: the others must hear of it
                logger.exception("not woken", extra={"action": "clock"})

    def _alive(self) -> list[Callable[[], None]]:
        """Those who are left; without any, the thread is to end."""
        with self._lock:
            found = [(each, method) for each in self._methods if (method := each()) is not None]
            self._methods = [each for each, _ in found]
            if not found:
                self._thread = None
            return [method for _, method in found]


_watch = Watch()
watch = _watch.tell
os.register_at_fork(after_in_child=_watch.forget)
