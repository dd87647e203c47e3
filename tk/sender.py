"""The relay's producer: sends events in order, tells which arrived, and stops at the first that is refused."""

from collections.abc import Callable
from time import monotonic
from types import MethodType

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from tk import clock, topics
from tk.client import client_config
from tk.conf import settings
from tk.contact import Contact
from tk.record import EVENT_ID_HEADER, load_headers
from tk.store import Event, Sent

IN_FLIGHT = 10_000  # events sent and not yet acknowledged, at most
STALL_SECONDS = 0.5  # how long a slow partition holds up the others
FLUSH_SECONDS = 1.0  # for what is on its way at the end
LINGER_MS = 5  # where much waits; after it librdkafka's thread turns in a loop until the last request is answered
PACE_SECONDS = 0.005  # between reads of small batches, and what each event adds that is on its way and left out
PACE_EACH = 0.000_02

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


class Sender:
    """Not thread-safe. going: whether the relay goes on; looked at where something is waited for.

    in_flight: what is on its way, by id. acknowledged, failed: what came of it, for the relay to take. suspects: ids of
    events that were refused in company: a batch is refused whole, so each is to be sent alone. broken: why the producer is
    of no use any more; then `drop` it.
    """

    def __init__(self, going: Callable[[], bool]) -> None:
        self._going = going
        self._producer: Producer | None = None
        self.contact = Contact()
        self.in_flight: dict[int, Event] = {}
        self.acknowledged: list[Sent] = []
        self.failed: dict[int, str] = {}
        self.suspects: set[int] = set()
        self.broken = ""
        clock.watch(self._wake)

    def send(self, event: Event, *, known: bool) -> bool:
        """Hand an event to the producer; known: as `contact` says. False: it did not go, nor may another before it."""
        headers: list[tuple[str, str | bytes | None]] = [(EVENT_ID_HEADER, event.event_id.encode())]
        if event.headers:
            headers += load_headers(event.headers)
        producer = self._producer or self._make()
        while True:
            try:
                producer.produce(  # by position, which takes a third less: callback, and after it on_delivery, the same
                    event.topic,
                    event.value,
                    event.key,
                    -1 if event.partition is None else event.partition,
                    MethodType(self._delivered, event),
                    None,
                    event.timestamp or 0,
                    headers,
                )
            except BufferError:  # the client's queue is full: let it empty
                self._poll(0.1)
                if self.broken or not self._going():
                    return False
                continue
            except KafkaException as error:
                self._refused(event, error.args[0])
                return False
            self.in_flight[event.id] = event
            if not known:
                self.contact.first(event.lane)
            return True

    def wait(self, left: int = 0, come: Callable[[], bool] | None = None) -> None:
        """Until no more than `left` events are unacknowledged, or long enough; with `come`, until others have come.

        Where none shall be left, none lingers for company.
        """
        began = monotonic()
        look_at = began + PACE_SECONDS + PACE_EACH * len(self.in_flight)
        while self._producer is not None and len(self.in_flight) > left and not self.broken:
            self._poll(0.02 if come is None else PACE_SECONDS, flush=not left)
            now = monotonic()
            if not self._going() or now > began + STALL_SECONDS:
                return
            if come is not None and now > look_at and come():
                return

    def flush(self) -> None:
        """Give what is on its way a second to arrive, unless the producer breaks."""
        deadline = monotonic() + FLUSH_SECONDS
        while self.in_flight and not self.broken and monotonic() < deadline:
            # A flush of 0.2 s or more would go on after a fatal error, and call callbacks with the exception set.
            self._poll(0.02, flush=True)

    def forget(self) -> None:
        """Forget refusals: under other leases another relay may have sent the events. Those that are ours go again."""
        self.failed.clear()
        self.suspects.clear()

    def drop(self) -> None:
        """Give the producer up; what it had not delivered is still in the outbox."""
        if self._producer is not None:
            self._producer.purge()
            deadline = monotonic() + STALL_SECONDS
            while self.in_flight and monotonic() < deadline:
                self._poll(0.02)  # it tells which event was refused
            self._producer = None
        self.contact = Contact()
        self.in_flight.clear()
        self.broken = ""

    def _make(self) -> Producer:
        self._producer = Producer(
            client_config(
                {
                    "enable.idempotence": True,  # implies acks=all and keeps the order over retries
                    # After a refusal nothing that came later is sent: an event must not overtake the one that its
                    # key's order puts first. The producer is of no use then, and another is made.
                    "enable.gapless.guarantee": True,
                    "message.timeout.ms": 0,  # the outbox keeps messages: there is no reason to give one up
                    "linger.ms": LINGER_MS,
                    "queue.buffering.max.messages": IN_FLIGHT,
                    "message.max.bytes": settings.MAX_VALUE_BYTES + settings.MAX_KEY_BYTES + 65_536,
                    "error_cb": self._on_error,
                }
            )
        )
        return self._producer

    def _wake(self) -> None:
        if (producer := self._producer) is not None:
            clock.wake(producer)

    def _on_error(self, error: KafkaError) -> None:
        topics.metadata.forget()
        if error.fatal():
            self.broken = error.str()

    def _delivered(self, event: Event, error: KafkaError | None, message: Message) -> None:
        if self.in_flight.pop(event.id, None) is None:
            return  # of a producer that was given up
        if error is not None:
            self._refused(event, error)
            return
        where = message.partition() or 0
        if self.contact.firsts:
            self.contact.arrived(event.lane, event.topic, where)
        if self.suspects:
            self.suspects.discard(event.id)
        self.acknowledged.append((event, where, message.offset() or 0))

    def _refused(self, event: Event, error: KafkaError) -> None:
        """Definitive and alone: it fails. In company it becomes a suspect. Anything else is tried again."""
        self.broken = self.broken or error.str()
        if error.code() not in _REFUSED:
            return
        if event.id in self.suspects:
            self.failed[event.id] = error.str()
        else:
            self.suspects.add(event.id)

    def _poll(self, seconds: float, *, flush: bool = False) -> None:
        try:
            if self._producer is not None:
                (self._producer.flush if flush else self._producer.poll)(seconds)
        except KafkaException as error:  # a fatal error is raised here, before the reports of what it did
            self.broken = self.broken or error.args[0].str()
