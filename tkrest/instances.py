"""The consumer instances of this process: found by group and name for their owner alone, closed when nobody uses them."""

import atexit
import logging
import os
import secrets
import threading
import time

from django.core.signals import setting_changed

from tk.access import Caller
from tkrest.client import Options
from tkrest.conf import settings
from tkrest.consume import Instance
from tkrest.errors import InstanceExists, InstanceNotFound, TooManyInstances

logger = logging.getLogger(__name__)

TEND_SECONDS = 0.5  # between looks at the idle instances: how long the group may wait for one of them
CLOSE_SECONDS = 5.0  # how long a request waits for a commit, and the process's end for consumers to leave their groups
LEAVE_SECONDS = 0.2  # how long a request waits for a group that lets its member go at once


def owner(caller: Caller) -> tuple[object, ...]:
    """What tells one caller from another: a user and a token may have one name."""
    return (
        caller.name,
        caller.user.pk if caller.user is not None else None,
        caller.scopes is not None,
        caller.everything,
    )


class Instances:
    """The instances of a process, and the thread that tends to them while there are some."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._all: dict[tuple[str, str], Instance] = {}
        self._leaving: dict[threading.Thread, Instance] = {}  # a broker may hold a group up for minutes
        self._keeper: threading.Thread | None = None

    def create(self, caller: Caller, group: str, name: str | None, options: Options) -> Instance:
        """A new instance. Raises InstanceExists or TooManyInstances."""
        name = name or f"rest-consumer-{secrets.token_hex(16)}"
        whose = owner(caller)
        with self._lock:
            if (group, name) in self._all:
                raise InstanceExists
            self._leaving = {thread: each for thread, each in self._leaving.items() if thread.is_alive()}
            held = [*self._all.values(), *self._leaving.values()]
            mine = sum(each.owner == whose for each in held)
            if len(held) >= settings.MAX_INSTANCES or mine >= settings.MAX_INSTANCES_OF_CALLER:
                raise TooManyInstances
            made = self._all[group, name] = Instance(group, name, whose, options)
            if self._keeper is None:
                self._keeper = threading.Thread(target=self._keep, name="tkrest-keeper", daemon=True)
                self._keeper.start()
        logger.info("instance made", extra={"action": "rest", "group": group, "caller": caller.name})
        return made

    def get(self, caller: Caller, group: str, name: str) -> Instance:
        """The caller's instance. Raises InstanceNotFound, for another caller's too."""
        found = self._all.get((group, name))
        if found is None or found.owner != owner(caller):
            raise InstanceNotFound
        return found

    def delete(self, caller: Caller, group: str, name: str) -> None:
        """Close the caller's instance: what it committed stands; it leaves its group when the broker lets it.

        Raises InstanceNotFound.
        """
        found = self.get(caller, group, name)
        with self._lock:
            if self._all.pop((group, name), None) is not found:
                raise InstanceNotFound
            leaving = self._leave(found, confirmed=True)
        found.settled.wait(CLOSE_SECONDS)
        leaving.join(LEAVE_SECONDS)

    def close(self) -> None:
        """Close all of them: the process ends."""
        with self._lock:
            for each in self._all.values():
                self._leave(each, confirmed=False)
            leaving, self._all = list(self._leaving), {}
        deadline = time.monotonic() + CLOSE_SECONDS
        for thread in leaving:
            thread.join(max(0, deadline - time.monotonic()))

    def _leave(self, instance: Instance, *, confirmed: bool) -> threading.Thread:
        """On a thread of its own: leaving the group may wait for a broker that is down."""
        thread = threading.Thread(
            target=instance.close, kwargs={"confirmed": confirmed}, name="tkrest-close", daemon=True
        )
        self._leaving[thread] = instance
        thread.start()
        return thread

    def _keep(self) -> None:
        while True:
            time.sleep(TEND_SECONDS)
            with self._lock:
                if not self._all:
                    self._keeper = None
                    return
                idle_since = time.monotonic() - settings.INSTANCE_SECONDS
                expired = [key for key, each in self._all.items() if each.used_at < idle_since]
                gone = [self._all.pop(key) for key in expired]
                for each in gone:
                    self._leave(each, confirmed=False)
                left = list(self._all.values())
            for each in gone:
                logger.info("instance expired", extra={"action": "rest", "group": each.group})
            for each in left:
                each.tend()


current = Instances()


def close() -> None:
    """Close the instances of this process."""
    current.close()


def _after_fork() -> None:
    """The parent's consumers are dead in a child."""
    global current
    current = Instances()


def _on_setting(setting: str, **kwargs: object) -> None:
    if setting in {"KAFKA_BROKER_URL", "KAFKA_CLIENT"}:
        close()


os.register_at_fork(after_in_child=_after_fork)
atexit.register(close)
setting_changed.connect(_on_setting, dispatch_uid="tkrest.instances")
