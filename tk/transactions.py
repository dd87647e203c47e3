"""Kafka transactions: all the records of a batch or none, for readers that read committed."""

import logging
import os
import secrets
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from confluent_kafka import KafkaError, KafkaException
from django.core.signals import setting_changed

from tk.conf import settings
from tk.errors import NotSent, OutcomeUnknown, QueueFull
from tk.producer import Producer

logger = logging.getLogger(__name__)

TRANSACTION_SECONDS = 10.0  # the coordinator ends an open transaction after this; until then it hides what others send
CALL_SECONDS = 5.0  # for one call to the coordinator


class _Slot:
    """A transactional producer; its id is this live process's and this slot's alone."""

    def __init__(self, number: int) -> None:
        self.id = f"tk-{socket.gethostname()[:60]}-{os.getpid()}-{secrets.token_hex(4)}-{number}"
        self.producer: Producer | None = None

    def ready(self) -> Producer:
        """A producer that may begin a transaction; made at the first call and after a failure. Raises NotSent."""
        if self.producer is not None and not self.producer.failed:
            return self.producer
        self.rebuild()
        timeout = int(TRANSACTION_SECONDS * 1000)
        delivery = int(min(settings.DELIVERY_TIMEOUT, TRANSACTION_SECONDS) * 1000)  # librdkafka wants it no longer
        made = Producer(
            {"transactional.id": self.id, "transaction.timeout.ms": timeout, "delivery.timeout.ms": delivery}
        )
        try:
            made.client.init_transactions(CALL_SECONDS)  # ends what an earlier producer of this id left open
        except KafkaException as error:
            made.drop()
            raise NotSent(f"Kafka takes no transaction now ({error.args[0].str()}): try again.") from error
        self.producer = made
        return made

    def rebuild(self) -> None:
        """Let the producer go: the next one fences it."""
        made, self.producer = self.producer, None
        if made is not None:
            made.drop()


class Pool:
    """The process's transactional producers: TRANSACTIONS of them, each with one transaction at a time."""

    def __init__(self) -> None:
        self._lock = threading.Condition()
        self._free: list[_Slot] = []
        self._made = 0

    @contextmanager
    def transaction(self) -> Iterator[Producer]:
        """A producer inside a transaction, which is committed at the block's end, or aborted where the block raises.

        Raises QueueFull where no producer gets free in time, NotSent where nothing was or will be seen, and OutcomeUnknown
        where the commit was asked for and its answer did not come.
        """
        slot = self._take()
        try:
            made = slot.ready()
            try:
                made.client.begin_transaction()
                yield made
            except BaseException as error:
                _abort(slot, made)
                if isinstance(error, KafkaException):
                    raise NotSent from error
                raise
            _commit(slot, made)
        finally:
            self._give_back(slot)

    def _take(self) -> _Slot:
        with self._lock:
            if not self._lock.wait_for(
                lambda: self._free or self._made < settings.TRANSACTIONS, settings.REQUEST_TIMEOUT
            ):
                raise QueueFull("Too many atomic batches are under way; this one was not taken: try again.")
            if self._free:
                return self._free.pop()
            self._made += 1
            return _Slot(self._made)

    def _give_back(self, slot: _Slot) -> None:
        with self._lock:
            self._free.append(slot)
            self._lock.notify()

    def close(self) -> None:
        """Let the idle producers go."""
        with self._lock:
            for slot in self._free:
                slot.rebuild()


def _abort(slot: _Slot, made: Producer) -> None:
    """End the transaction with nothing seen. Where the coordinator does not answer it does so itself, by its timeout."""
    try:
        made.client.abort_transaction(CALL_SECONDS)
    except KafkaException as error:
        logger.warning("abort failed", extra={"action": "abort", "error": error.args[0].str()})
        slot.rebuild()


def _commit(slot: _Slot, made: Producer) -> None:
    deadline = time.monotonic() + TRANSACTION_SECONDS
    while True:
        try:
            made.client.commit_transaction(CALL_SECONDS)
        except KafkaException as raised:
            error: KafkaError = raised.args[0]
            if error.txn_requires_abort():
                _abort(slot, made)
                raise NotSent(f"The transaction was aborted ({error.str()}); nothing of it is seen.") from raised
            if error.retriable() and time.monotonic() < deadline:
                continue
            logger.warning("commit unknown", extra={"action": "commit", "error": error.str()})
            slot.rebuild()
            raise OutcomeUnknown from raised
        return


pool = Pool()


def _after_fork() -> None:
    global pool
    pool = Pool()  # the parent's clients are dead in a child


def _on_setting(setting: str, **kwargs: object) -> None:
    if setting in {"KAFKA_BROKER_URL", "KAFKA_CLIENT", "TK"}:
        pool.close()


os.register_at_fork(after_in_child=_after_fork)
setting_changed.connect(_on_setting, dispatch_uid="tk.transactions")
