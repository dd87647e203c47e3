"""The relay: sends what transactions committed to the outbox, in order per key, and marks what the brokers acknowledged.

Killed between the two it sends again, with the same event id in a header. Kafka being away is waited for, at any length.
"""

import logging
import threading
import time
from functools import partial

from confluent_kafka import KafkaError, KafkaException, Message, Producer
from django.db import Error as DatabaseError
from django.db import connections, router

from tk import topics
from tk.client import client_config
from tk.conf import settings
from tk.errors import NotSent, UnknownTopic
from tk.leases import Leases
from tk.models import OutboxEvent
from tk.record import EVENT_ID_HEADER, load_headers
from tk.store import Event, Sent, Store
from tk.wake import Wake

logger = logging.getLogger(__name__)

BATCH = 5_000  # events read at once
IN_FLIGHT = 10_000  # events sent and not yet acknowledged, at most
STALL_SECONDS = 0.5  # how long a slow partition holds up the others
LONGEST_PAUSE = 5.0  # seconds between tries
MISSING_SECONDS = 5.0  # how long a topic is missing before its messages fail: a restarted broker may not know it yet
PRUNE_SECONDS = 1.0

# Answers that another try does not change. Everything else is waited out.
_REFUSED = {
    KafkaError.MSG_SIZE_TOO_LARGE,
    KafkaError.UNKNOWN_TOPIC_OR_PART,
    KafkaError._UNKNOWN_TOPIC,
    KafkaError._UNKNOWN_PARTITION,
    KafkaError.TOPIC_EXCEPTION,
    KafkaError.TOPIC_AUTHORIZATION_FAILED,
    KafkaError.INVALID_RECORD,
    KafkaError.INVALID_TIMESTAMP,
    KafkaError.POLICY_VIOLATION,
}


class Relay:
    """Sends the outbox of one database until `stop()`. Any number may run, in any processes, on any hosts."""

    def __init__(self, using: str | None = None) -> None:
        self.using = using or router.db_for_write(OutboxEvent)
        self.leases = Leases(self.using)
        self._store = Store(self.using, self.leases)
        self._ending = threading.Event()
        self._producer: Producer | None = None
        self._in_flight: dict[int, Event] = {}
        self._acknowledged: list[Sent] = []
        self._failed: dict[int, str] = {}  # refused when sent alone, not yet marked
        self._suspects: set[int] = set()  # refused in company: a batch is refused whole, so each is tried alone
        self._broken = ""  # why the producer is of no use any more
        self._missing: dict[str, float] = {}  # since when, by topic
        self._waiting = False  # the last step left events whose topic may yet appear
        self._prune_at = 0.0

    def stop(self) -> None:
        """End `run()` within a moment; what is acknowledged by then is marked. Safe in a signal handler."""
        self._ending.set()

    def run(self, *, once: bool = False) -> None:
        """Send until `stop()`; with `once`, until nothing that can be sent is left."""
        pause = 0.0
        wake = Wake(self.using)
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
                if not busy and not self._in_flight:
                    if once and not self._waiting:
                        return
                    wake.wait(settings.OUTBOX_POLL_SECONDS)
        finally:
            wake.close()
            self._end()

    def step(self) -> bool:
        """Read, send, wait a moment for acknowledgements, mark. False: there was nothing to do.

        While much waits, the next events are read as the acknowledgements of the last ones come in. Raises NotSent while
        Kafka is away, and Django's database errors.
        """
        connections[self.using].close_if_unusable_or_obsolete()
        self.leases.keep()
        self._mark()  # what the last step could not
        self._prune()
        room = min(BATCH, IN_FLIGHT - len(self._in_flight))
        events = self._store.pending(room, self._in_flight) if room > 0 and self.leases.held else []
        if not events and not self._in_flight:
            self._waiting = False
            return False
        busy = bool(self._in_flight)
        taken = self._send(events) if self.leases.valid() else 0
        self._await(BATCH if taken == BATCH else 0)
        self._mark()
        if self._broken:
            self._rebuild()
        return busy or taken > 0

    def _send(self, events: list[Event]) -> int:
        """Hand events to the producer, up to the first that must go alone; give how many were dealt with."""
        held: set[int] = set()  # lanes whose next event cannot go yet
        looked: dict[tuple[str, int | None], str | None] = {}  # once a topic: what _look said
        taken = 0
        self._waiting = False
        if self._suspects and not self._suspects.isdisjoint(self._in_flight):
            return 0  # the one that goes alone has no answer yet
        for event in events:
            if event.lane in held:
                continue
            if self._suspects and event.id in self._suspects and self._in_flight:
                break  # it goes alone, when the others are through
            where = (event.topic, event.partition)
            if where not in looked:
                looked[where] = self._look(*where)
            wrong = looked[where]
            if wrong is not None:
                held.add(event.lane)
                if not wrong:
                    self._waiting = True
                    continue
                self._failed[event.id] = wrong
            else:
                self._produce(event)
            taken += 1
            if event.id in self._suspects or self._broken or self._ending.is_set():
                break
        return taken

    def _look(self, name: str, partition: int | None) -> str | None:
        """What is wrong with the place: None nothing, "" a topic that may yet appear. Raises NotSent."""
        try:
            topic = topics.get(name)
        except UnknownTopic as error:
            since = self._missing.setdefault(name, time.monotonic())
            return str(error) if time.monotonic() - since >= MISSING_SECONDS else ""
        self._missing.pop(name, None)
        if partition is not None and partition >= topic.partitions:
            return f"Topic {name!r} has the partitions 0 to {topic.partitions - 1}."
        return None

    def _produce(self, event: Event) -> None:
        headers: list[tuple[str, str | bytes | None]] = [(EVENT_ID_HEADER, event.event_id.encode())]
        if event.headers:
            headers += load_headers(event.headers)
        producer = self._producer or self._make()
        while True:
            try:
                producer.produce(
                    event.topic,
                    event.value,
                    event.key,
                    -1 if event.partition is None else event.partition,
                    on_delivery=partial(self._delivered, event),
                    timestamp=event.timestamp or 0,
                    headers=headers,
                )
            except BufferError:  # the client's queue is full: let it empty
                self._poll(0.1)
                self.leases.keep()
                if self._ending.is_set() or self._broken:
                    return
                continue
            except KafkaException as error:
                self._refused(event, error.args[0])
                return
            self._in_flight[event.id] = event
            return

    def _make(self) -> Producer:
        self._producer = Producer(
            client_config(
                {
                    "enable.idempotence": True,  # implies acks=all and keeps the order over retries
                    # After a refusal nothing that came later is sent: an event must not overtake the one that its
                    # key's order puts first. The producer is of no use then, and another is made.
                    "enable.gapless.guarantee": True,
                    "message.timeout.ms": 0,  # the outbox keeps messages: there is no reason to give one up
                    "linger.ms": settings.LINGER_MS,
                    "queue.buffering.max.messages": IN_FLIGHT,
                    "message.max.bytes": settings.MAX_VALUE_BYTES + settings.MAX_KEY_BYTES + 65_536,
                    "error_cb": self._on_error,
                }
            )
        )
        return self._producer

    def _on_error(self, error: KafkaError) -> None:
        topics.metadata.forget()
        if error.fatal():
            self._broken = error.str()

    def _delivered(self, event: Event, error: KafkaError | None, message: Message) -> None:
        if self._in_flight.pop(event.id, None) is None:
            return  # of a producer that was given up
        if error is None:
            if self._suspects:
                self._suspects.discard(event.id)
            self._acknowledged.append((event, message.partition() or 0, message.offset() or 0))
        else:
            self._refused(event, error)

    def _refused(self, event: Event, error: KafkaError) -> None:
        """Definitive and alone: it fails. In company it becomes a suspect. Anything else is tried again."""
        self._broken = self._broken or error.str()
        if error.code() not in _REFUSED:
            return
        if event.id in self._suspects:
            self._failed[event.id] = error.str()
        else:
            self._suspects.add(event.id)

    def _await(self, left: int = 0) -> None:
        """Wait until no more than `left` events are unacknowledged, or long enough."""
        deadline = time.monotonic() + STALL_SECONDS
        while self._producer is not None and len(self._in_flight) > left and not self._broken:
            self._poll(0.02)
            if self._ending.is_set() or time.monotonic() > deadline:
                return

    def _poll(self, seconds: float) -> None:
        try:
            if self._producer is not None:
                self._producer.poll(seconds)
        except KafkaException as error:  # a fatal error is raised here, before the reports of what it did
            self._broken = self._broken or error.args[0].str()

    def _mark(self) -> None:
        """Record what was acknowledged and what failed. Should the database be away, the next step tries again."""
        if not self._acknowledged and not self._failed:
            return
        self._store.mark(self._acknowledged, self._failed)
        for event_id, error in self._failed.items():
            self._suspects.discard(event_id)
            logger.error("event failed", extra={"action": "relay", "event": event_id, "error": error})
        self._acknowledged.clear()
        self._failed.clear()

    def _rebuild(self) -> None:
        """Give the producer up; what it had not delivered is still in the outbox and goes again, in order."""
        logger.warning("relay begins anew", extra={"action": "relay", "error": self._broken})
        self._drop()
        if not self._suspects:
            raise NotSent("The producer failed: its messages are sent again.")

    def _drop(self) -> None:
        if self._producer is not None:
            self._producer.purge()
            deadline = time.monotonic() + STALL_SECONDS
            while self._in_flight and time.monotonic() < deadline:
                self._poll(0.02)  # it tells which event was refused
            self._producer = None
        self._in_flight.clear()
        self._broken = ""

    def _prune(self) -> None:
        now = time.monotonic()
        if now >= self._prune_at and self.leases.held:
            full = self._store.prune()
            self._prune_at = now + (0 if full else PRUNE_SECONDS)

    def _end(self) -> None:
        try:
            if self._producer is not None:
                self._producer.flush(1)
            self._mark()
            self.leases.release()
        except DatabaseError as error:  # the leases end by themselves, and what is not marked goes again
            logger.warning("relay ended without its database", extra={"action": "relay", "error": str(error)})
        finally:
            self._drop()
            connections[self.using].close()
