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

_lock = threading.Lock()
_watching: list["weakref.WeakMethod[Callable[[], None]]"] = []
_thread: threading.Thread | None = None


def watch(put_back: Callable[[], None]) -> None:
    """Call this bound method, on a thread of this module, when the clock was put back; as long as its object lives."""
    global _thread
    with _lock:
        _watching.append(weakref.WeakMethod(put_back))
        if _thread is None:
            _thread = threading.Thread(target=_run, name="tk-clock", daemon=True)
            _thread.start()


def wake(client: Any) -> None:
    """Ask the brokers something: the answer goes through the thread of the client that does all but its requests."""
    try:
        client.list_topics(timeout=ANSWER_SECONDS)
    except KafkaException as error:
        logger.info("no answer", extra={"action": "clock", "error": error.args[0].str()})


def _run() -> None:
    """Look each second, until nobody is left to be told."""
    before = _ahead()
    while _alive():
        time.sleep(LOOK_SECONDS)  # by the monotonic clock; an Event may wait by the other one
        now = _ahead()
        if before - now > STEP_SECONDS:
            logger.warning("the clock was put back", extra={"action": "clock", "seconds": round(before - now, 1)})
            _tell()
        before = now


def _tell() -> None:
    for put_back in _alive():
        try:
            put_back()
        except Exception:  # of one client: the others must hear of it
            logger.exception("not woken", extra={"action": "clock"})


def _ahead() -> float:
    """Seconds by which the wall clock is ahead of the monotonic one."""
    return time.time() - time.monotonic()


def _alive() -> list[Callable[[], None]]:
    """Those who are left; without any, this thread is to end."""
    global _thread
    with _lock:
        found = [(each, method) for each in _watching if (method := each()) is not None]
        _watching[:] = [each for each, _ in found]
        if not found:
            _thread = None
        return [method for _, method in found]


def _after_fork() -> None:
    global _lock, _thread
    _lock, _thread = threading.Lock(), None
    _watching.clear()


os.register_at_fork(after_in_child=_after_fork)
