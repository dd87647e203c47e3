"""The relay: sends what transactions committed to the outbox, in order per key, and marks what the brokers acknowledged.

Killed between the two it sends again, with the same event id in a header. Kafka being away is waited for, at any length.
"""

import logging
import threading
import time
from collections.abc import Sequence

from django.db import Error as DatabaseError
from django.db import connections, router

from tk import topics
from tk.ahead import Ahead
from tk.conf import settings
from tk.database import keep_connections
from tk.errors import NotSent, UnknownTopic
from tk.leases import Leases
from tk.models import OutboxEvent
from tk.sender import IN_FLIGHT, Sender
from tk.store import Event, Sent, Store
from tk.wake import Wake

logger = logging.getLogger(__name__)

BATCH = 5_000  # events read at once
LONGEST_PAUSE = 5.0  # seconds between tries
MISSING_SECONDS = 5.0  # how long a topic is missing before its messages fail: a restarted broker may not know it yet
PRUNE_SECONDS = 1.0


class Relay:
    """Sends the outbox of one database until `stop()`. Any number may run, in any processes, on any hosts."""

    def __init__(self, using: str | None = None) -> None:
        self.using = using or router.db_for_write(OutboxEvent)
        self.leases = Leases(self.using)
        self._store = Store(self.using, self.leases)
        self._ahead = Ahead(self.using)
        self._wake = Wake(self.using)
        self._ending = threading.Event()
        self._sender = Sender(going=lambda: not self._ending.is_set() and self.leases.valid())
        self._marking: list[Sent] = []  # acknowledged, and being marked on the other thread
        self._follows = False  # whether what is read ahead comes right after what was sent
        self._missing: dict[str, float] = {}  # since when, by topic
        self._waiting = False  # the last step left events whose topic may yet appear
        self._prune_at = 0.0

    def stop(self) -> None:
        """End `run()` within a moment; what is acknowledged by then is marked. Safe in a signal handler."""
        self._ending.set()

    def run(self, *, once: bool = False) -> None:
        """Send until `stop()`; with `once`, until nothing that can be sent is left."""
        pause = 0.0
        try:
            while not self._ending.is_set():
                try:
                    busy = self.step()
                    pause = 0.0
                except (DatabaseError, NotSent) as error:
                    pause = min(LONGEST_PAUSE, pause * 2 or 0.1)
                    logger.warning("relay waits", extra={"action": "relay", "error": str(error), "seconds": pause})
                    if isinstance(error, DatabaseError):
                        connections[self.using].close()
                    self._ending.wait(pause)
                    continue
                if not busy and not self._sender.in_flight:
                    if once and not self._waiting:
                        return
                    self._wake.wait(settings.OUTBOX_POLL_SECONDS)
        finally:
            self._wake.close()
            self._end()

    def step(self) -> bool:
        """Read, send, mark what the last steps sent, wait a moment for acknowledgements. False: there was nothing to do.

        While much waits, the last events are marked and the next are read on another thread as these are sent. Raises
        NotSent while Kafka is away, and Django's database errors.
        """
        keep_connections()
        sender = self._sender
        events = self._taken()
        if self.leases.keep():
            events = None  # read for other shards
            sender.forget()
        if events is None:
            events = self._next()
        busy = bool(sender.in_flight)
        much = len(events) == BATCH and not sender.suspects
        if much:
            self._read_ahead(events)
        taken = self._send(events) if events and self.leases.valid() else 0
        if not much:
            self._mark()  # while these are on their way: no event waits for the mark of another
        self._prune()
        if much and taken == BATCH:
            sender.wait(BATCH)
        else:
            sender.wait(0, self._wake.come if taken == len(events) else None)
        self._follows = much and taken == BATCH and not sender.broken and not sender.failed
        if sender.broken:
            self._mark()
            self._rebuild()
            return True
        return busy or taken > 0

    def _next(self) -> list[Event]:
        """What waits, but for what is on its way, and for what has arrived and is not marked."""
        sender = self._sender
        if sender.failed:
            self._mark()  # what failed holds its lane
        room = min(BATCH, IN_FLIGHT - len(sender.in_flight))
        if room <= 0 or not self.leases.held:
            return []
        without = [*sender.in_flight, *(event.id for event, _, _ in sender.acknowledged)]
        return self._store.pending(room, without)

    def _read_ahead(self, events: Sequence[Event]) -> None:
        """Begin to mark what is acknowledged, and to read what comes after `events`, which are about to be sent."""
        sent = self._marking = self._sender.acknowledged
        self._sender.acknowledged = []
        without = [*self._sender.in_flight, *(event.id for event in events)]

        def work() -> list[Event]:
            if sent:
                self._store.mark(sent, {})
            return self._store.pending(BATCH, without)

        self._ahead.begin(work)

    def _taken(self) -> list[Event] | None:
        """The events that were read ahead; None: none were, or they cannot be sent now and are to be read again."""
        follows, self._follows = self._follows, False
        try:
            events = self._ahead.take()
        except DatabaseError:
            self._sender.acknowledged[:0] = self._marking  # to be marked again, which does no harm
            raise
        finally:
            self._marking = []
        room = IN_FLIGHT - len(self._sender.in_flight)
        return events if events and follows and len(events) <= room else None

    def _send(self, events: Sequence[Event]) -> int:
        """Hand events to the producer, up to the first that must go alone; give how many were dealt with."""
        sender = self._sender
        held: set[int] = set()  # lanes whose next event cannot go yet
        looked: dict[tuple[str, int | None], tuple[str | None, bool]] = {}  # once a place: what _look said
        taken = 0
        self._waiting = False
        if sender.suspects and not sender.suspects.isdisjoint(sender.in_flight):
            return 0  # the one that goes alone has no answer yet
        for event in events:
            if event.lane in held:
                continue
            if sender.suspects and event.id in sender.suspects and sender.in_flight:
                break  # it goes alone, when the others are through
            where = (event.topic, event.partition)
            wrong, known = looked.get(where) or looked.setdefault(where, self._look(*where))
            if wrong == "" or (not known and event.lane in sender.contact.firsts):
                held.add(event.lane)
                continue
            if wrong:
                held.add(event.lane)
                sender.failed[event.id] = wrong
            elif not sender.send(event, known=known):
                break
            taken += 1
            if event.id in sender.suspects or self._ending.is_set():
                break
        return taken

    def _look(self, name: str, partition: int | None) -> tuple[str | None, bool]:
        """What is wrong with the place: None nothing, "" the topic may yet appear; and whether the brokers know the
        producer there. Raises NotSent."""
        try:
            topic = topics.get(name)
        except UnknownTopic as error:
            since = self._missing.setdefault(name, time.monotonic())
            if time.monotonic() - since >= MISSING_SECONDS:
                return str(error), False
            self._waiting = True
            return "", False
        self._missing.pop(name, None)
        if partition is not None and partition >= topic.partitions:
            return f"Topic {name!r} has the partitions 0 to {topic.partitions - 1}.", False
        return None, self._sender.contact.known(topic)

    def _mark(self) -> None:
        """Record what was acknowledged and what failed. Should the database be away, the next step tries again."""
        sender = self._sender
        if not sender.acknowledged and not sender.failed:
            return
        self._store.mark(sender.acknowledged, sender.failed)
        for event_id, error in sender.failed.items():
            sender.suspects.discard(event_id)
            logger.error("event failed", extra={"action": "relay", "event": event_id, "error": error})
        sender.acknowledged.clear()
        sender.failed.clear()

    def _rebuild(self) -> None:
        """Give the producer up; what it had not delivered is still in the outbox and goes again, in order."""
        logger.warning("relay begins anew", extra={"action": "relay", "error": self._sender.broken})
        self._sender.drop()
        if not self._sender.suspects:
            raise NotSent("The producer failed: its messages are sent again.")

    def _prune(self) -> None:
        now = time.monotonic()
        if now >= self._prune_at and self.leases.held:
            full = self._store.prune()
            self._prune_at = now + (0 if full else PRUNE_SECONDS)

    def _end(self) -> None:
        try:
            self._sender.flush()
            self._taken()
            self._mark()
            self.leases.release()
        except DatabaseError as error:  # the leases end by themselves, and what is not marked goes again
            logger.warning("relay ended without its database", extra={"action": "relay", "error": str(error)})
        finally:
            self._ahead.close()
            self._sender.drop()
            connections[self.using].close()
