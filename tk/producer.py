"""The one producer of a process: idempotent, acks=all, made lazily after fork, polled by one thread."""

import atexit
import logging
import os
import threading
import time
import uuid
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from functools import partial
from typing import cast

from confluent_kafka import TIMESTAMP_NOT_AVAILABLE, KafkaError, KafkaException, Message
from confluent_kafka import Producer as Client
from django.core.signals import setting_changed
from django.utils.translation import gettext_noop as _

from tk import clock, topics, tracing
from tk.client import client_config
from tk.conf import settings
from tk.errors import (
    BrokerRefused,
    InvalidPartition,
    InvalidTimestamp,
    NotSent,
    OutcomeUnknown,
    QueueFull,
    TkError,
    TooLarge,
    UnknownTopic,
)
from tk.record import Receipt, Record, Text, check, with_event_id

logger = logging.getLogger(__name__)

POLL_SECONDS = 0.1  # how long the poller waits for an acknowledgement before it looks whether it shall end
ROOM = 2_048  # bytes that the protocol adds to a record

Done = Callable[[Receipt | TkError], None]
Delivered = Callable[[KafkaError | None, Message], None]

# Errors after which the broker certainly does not have the record: found out before anything was sent.
_NOT_SENT = {KafkaError._UNKNOWN_PARTITION}
# Errors by which the broker says no to this very record, before it appends it.
_REFUSED = {
    KafkaError.TOPIC_AUTHORIZATION_FAILED,
    KafkaError.CLUSTER_AUTHORIZATION_FAILED,
    KafkaError.INVALID_MSG,
    KafkaError.INVALID_RECORD,
    KafkaError.INVALID_REQUIRED_ACKS,
    KafkaError.POLICY_VIOLATION,
    KafkaError.RECORD_LIST_TOO_LARGE,
    KafkaError.TOPIC_EXCEPTION,
}


class Producer:
    """A librdkafka producer and the thread that takes its acknowledgements. options: over the usual ones."""

    def __init__(self, options: Mapping[str, object] | None = None) -> None:
        self.failed = False  # a fatal error: this producer sends nothing any more
        limits = settings.MAX_VALUE_BYTES + settings.MAX_KEY_BYTES + settings.MAX_HEADERS_BYTES
        self.client = Client(
            client_config(
                {
                    "enable.idempotence": True,  # implies acks=all and keeps the order over retries
                    "linger.ms": settings.LINGER_MS,
                    "delivery.timeout.ms": int(settings.DELIVERY_TIMEOUT * 1000),
                    "queue.buffering.max.messages": settings.QUEUE_MESSAGES,
                    "queue.buffering.max.kbytes": settings.QUEUE_KIB,
                    "message.max.bytes": limits + ROOM,
                    "error_cb": self._on_error,
                    **(options or {}),
                }
            )
        )
        self._ending = threading.Event()
        self._poller = threading.Thread(target=self._poll, name="tk-producer", daemon=True)
        self._poller.start()
        clock.watch(self._wake)

    def send(self, record: Record, done: Done) -> None:
        """Hand a checked record over; `done` is called once, on the poller's thread, with a receipt or an error.

        Raises QueueFull, and NotSent after a fatal error. Keep `done` short: it holds up the other acknowledgements.
        """
        if tracing.on():
            with tracing.sending(record, done) as (traced, finished):
                self._send(traced, finished)
        else:
            self._send(record, done)

    def _send(self, record: Record, done: Done) -> None:
        def delivered(error: KafkaError | None, message: Message) -> None:
            done(receipt(message) if error is None else failure(error, record.topic))

        try:
            self.produce(record, delivered)
        except BufferError as error:
            raise QueueFull from error

    def produce(self, record: Record, delivered: Delivered) -> None:
        """The client's produce(). Raises BufferError where the queue is full, and why the record was not taken."""
        try:
            self.client.produce(  # by position, which takes a third less: callback, and after it on_delivery, the same
                record.topic,
                record.value,
                record.key,
                -1 if record.partition is None else record.partition,
                delivered,
                None,
                record.timestamp or 0,
                list(record.headers) or None,
            )
        except KafkaException as error:
            raise self.refusal(error.args[0], record.topic) from error

    def produce_text(self, topic: str, text: Text, delivered: Delivered) -> None:
        """The same of a text."""
        try:
            self.client.produce(topic, text.value, text.key, -1, delivered, None, 0, text.headers)  # type: ignore[arg-type]
        except KafkaException as error:
            raise self.refusal(error.args[0], topic) from error

    def refusal(self, error: KafkaError, topic: str) -> TkError:
        """Why the client did not take a record; after a fatal error it takes none any more."""
        if error.fatal():
            self.failed = True
            return NotSent()
        return failure(error, topic)

    def close(self, seconds: float) -> int:
        """Wait for what is on its way, drop the rest; give the number of records dropped."""
        left: int = self.client.flush(seconds)
        if left:
            self.client.purge()
            self.client.flush(1)
        self._ending.set()
        if threading.current_thread() is not self._poller:
            self._poller.join(POLL_SECONDS * 20)
        return left

    def drop(self) -> None:
        """Let it end on a thread of its own; what is not acknowledged is dropped."""
        threading.Thread(target=self.close, args=(0,), name="tk-producer-end", daemon=True).start()

    def __len__(self) -> int:
        """Records not yet acknowledged."""
        return len(self.client)

    def _poll(self) -> None:
        while not self._ending.is_set():
            try:
                self.client.poll(POLL_SECONDS)
            except Exception:  # of a callback, as when its event loop has closed: the other records want their answers
                logger.exception("an acknowledgement's callback failed", extra={"action": "produce"})

    def _wake(self) -> None:
        clock.wake(self.client)

    def _on_error(self, error: KafkaError) -> None:
        # The next request asks the cluster before it hands a record over, and hears at once that it is down.
        topics.metadata.forget()
        if error.fatal():
            self.failed = True
            logger.error("producer failed", extra={"action": "produce", "error": error.str()})


def receipt(message: Message) -> Receipt:
    """Of a message that the brokers have acknowledged."""
    kind, timestamp = message.timestamp()
    return Receipt(
        message.topic() or "",
        cast("int", message.partition()),
        cast("int", message.offset()),
        timestamp if kind != TIMESTAMP_NOT_AVAILABLE else int(time.time() * 1000),
    )


def failure(error: KafkaError, topic: str) -> TkError:
    """librdkafka's error as ours: what is known of the record's fate."""
    code = error.code()
    if code in _NOT_SENT:
        return NotSent()
    if code == KafkaError.MSG_SIZE_TOO_LARGE:
        return TooLarge(_("The broker takes no message of this size: see message.max.bytes."))
    if code == KafkaError.INVALID_TIMESTAMP:
        return InvalidTimestamp(
            _("The broker refused the timestamp: see message.timestamp.before.max.ms and after.max.ms.")
        )
    if code in {KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError._UNKNOWN_TOPIC}:
        topics.metadata.forget()
        return UnknownTopic(_("The broker has no topic %(topic)r: create it first."), topic=topic)
    if code in _REFUSED:
        return BrokerRefused(_("The broker refused the message: %(error)s"), error=error.str())
    # Timed out, purged, a broken connection, a lost sequence number: it may have been appended before. A purge is among
    # them, for a record that waits in the queue may have been tried.
    return OutcomeUnknown()


_lock = threading.Lock()
_current: Producer | None = None


def current() -> Producer:
    """The producer of this process; made at the first call, after a fork, and after a fatal error."""
    global _current
    made = _current
    if made is not None and not made.failed:
        return made
    with _lock:
        made = _current
        if made is None or made.failed:
            if made is not None:
                made.drop()
            _current = made = Producer()
    return made


def unacknowledged() -> int:
    """Records of this process that the brokers have not confirmed yet."""
    made = _current
    return len(made) if made is not None else 0


def close(seconds: float = 5.0) -> None:
    """End this process's producer, if it has one; what is not acknowledged by then is dropped, and logged."""
    global _current
    with _lock:
        made, _current = _current, None
    if made is not None:
        dropped = made.close(seconds)
        if dropped:
            logger.warning("unacknowledged records dropped", extra={"action": "close", "records": dropped})


def submit(record: Record, done: Done, event_id: uuid.UUID | None = None) -> None:
    """Check a record against the rules and the cluster, then send it; see Producer.send for `done`.

    event_id: makes a repeat recognisable. Raises InvalidRecord (with its subclasses), NotSent and QueueFull: nothing was
    sent then.
    """
    check(record)
    topic = topics.get(record.topic)
    hand_over(record if event_id is None else with_event_id(record, event_id), topic, done)


def hand_over(record: Record, topic: topics.Topic, done: Done) -> None:
    """`submit` for a record that was checked, to a topic that is known. Touches no network."""
    error = misplaced(record, topic)
    if error is not None:
        raise error
    current().send(record, done)


def misplaced(record: Record, topic: topics.Topic) -> InvalidPartition | None:
    """The error of a record whose partition the topic has not."""
    if record.partition is None or record.partition < topic.partitions:
        return None
    return InvalidPartition(
        _("Topic %(topic)r has the partitions 0 to %(last)d."), topic=topic.name, last=topic.partitions - 1
    )


def send(record: Record, event_id: uuid.UUID | None = None) -> Receipt:
    """Send a record and wait for the acknowledgement, at most until REQUEST_TIMEOUT.

    event_id: makes a repeat recognisable.
    Raises what `submit` raises, and OutcomeUnknown, UnknownTopic, TooLarge or BrokerRefused as the broker answers.
    """
    return _wait(partial(submit, event_id=event_id), record)


def forward(record: Record) -> Receipt:
    """`send` for a record that came from Kafka: the broker's rules alone hold, not those for what clients send."""

    def pass_on(record: Record, done: Done) -> None:
        topics.get(record.topic)
        current().send(record, done)

    return _wait(pass_on, record)


def _wait(start: Callable[[Record, Done], None], record: Record) -> Receipt:
    future: Future[Receipt | TkError] = Future()
    start(record, future.set_result)
    try:
        outcome = future.result(settings.REQUEST_TIMEOUT)
    except TimeoutError:  # DELIVERY_TIMEOUT is shorter: this takes a stalled poller
        raise OutcomeUnknown from None
    if isinstance(outcome, TkError):
        raise outcome
    return outcome


def _after_fork() -> None:
    """The parent's client is dead in a child, and its lock may be held."""
    global _lock, _current
    _lock = threading.Lock()
    _current = None


def _on_setting(setting: str, **kwargs: object) -> None:
    if setting in {"KAFKA_BROKER_URL", "KAFKA_CLIENT", "TK"}:
        close(1)


os.register_at_fork(after_in_child=_after_fork)
atexit.register(close)
setting_changed.connect(_on_setting, dispatch_uid="tk.producer")
