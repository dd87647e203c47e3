"""Protections of the product, each with what takes it out: FAULTS_WITHOUT names those of this process."""

import os
from collections.abc import Callable
from contextlib import nullcontext, suppress
from types import SimpleNamespace
from typing import Any

from tests.faults.inside.steps import put


def take_out() -> None:
    for name in filter(None, os.environ.get("FAULTS_WITHOUT", "").split(",")):
        PROTECTIONS[name]()


def acknowledgement() -> None:
    """The answer comes when the message is in the client's queue, not when the brokers have it."""
    from tk import producer

    real = producer.client_config

    def unacknowledged(options: Any, defaults: Any = None) -> Any:
        return real({**options, "enable.idempotence": False, "acks": 0}, defaults)

    put(producer, "client_config", unacknowledged)


def outbox() -> None:
    """publish() sends at once and hopes, instead of leaving the message in the database."""
    from tests.faults.inside import views
    from tk import api, producer
    from tk.errors import TkError

    def publish(topic: str, value: str, *, key: str) -> None:
        with suppress(TkError):
            producer.submit(api.record(topic, value, key=key), lambda outcome: None)

    put(views, "outbox", SimpleNamespace(publish=publish))


def compare_and_set() -> None:
    """A write moves the position whoever owns it by now."""
    from tkcons import positions
    from tkcons.models import Position
    from tkcons.sinks.ledger import Ledger

    def advance(batches: Any, keys: Any, using: str, ahead: int | None = None) -> None:
        for batch in batches:
            row = Position.objects.using(using).filter(pk=keys[batch.place])
            row.update(next_offset=batch.end, trying_until=ahead, tries=0)

    def advance_in_file(self: Ledger, batches: Any) -> None:
        for batch in batches:
            place = (batch.end, batch.place.topic_id, batch.place.partition)
            self._db.execute("UPDATE position SET next_offset = ? WHERE topic_id = ? AND partition = ?", place)

    def stop_at(batch: Any, offset: int, key: int, using: str) -> None:
        Position.objects.using(using).filter(pk=key).update(next_offset=offset)

    put(positions, "advance", advance)
    put(positions, "stop_at", stop_at)
    put(positions, "try_from", lambda *_: None)
    put(Ledger, "advance", advance_in_file)


def one_transaction() -> None:
    """The position and the rows are committed one after the other."""
    from tkcons.sinks import database, handler

    apart = SimpleNamespace(atomic=lambda **_: nullcontext())
    put(database, "transaction", apart)
    put(handler, "transaction", apart)


def cutting_off() -> None:
    """What was written to a file and never recorded stays there."""
    from tests.faults.inside import steps

    steps._Os.ftruncate = lambda *_: None


def event_ids() -> None:
    """The relay's repeats are stored like anything else."""
    from tkcons import repeats

    put(repeats, "find", lambda batches, seen: repeats.Found(batches, {}, []))


def trying_again() -> None:
    """A batch that could not be stored is passed over, as it would be by who keeps positions in memory."""
    from tkcons.worker import Worker

    put(Worker, "_fail", lambda self, batches, error: self._assignment.done(batches))
    compare_and_set()


def topic_id() -> None:
    """A topic made again under its name is taken for the old one."""
    from tk import topics

    real, first = topics.get, {}

    def get(name: str, fresh: float | None = None) -> Any:
        seen = real(name, fresh)
        return type(seen)(name, first.setdefault(name, seen.id), seen.partitions)

    put(topics, "get", get)


def stored_position() -> None:
    """A consumer begins where Kafka's group offsets say, as most do, and writes without comparing."""
    from confluent_kafka import TopicPartition

    from tkcons.claims import Claims

    real = Claims.take

    def take(self: Claims, names: Any) -> Any:
        claims = real(self, names)
        told = self._consumer.committed([TopicPartition(*name) for name in names], timeout=10)
        offsets = {(p.topic, p.partition): p.offset for p in told if p.offset >= 0}
        return {
            place: mine._replace(next_offset=offsets.get((place.topic, place.partition), mine.next_offset))
            for place, mine in claims.items()
        }

    put(Claims, "take", take)
    compare_and_set()


def told_start() -> None:
    """Where a group has no position, Kafka's group offsets count, whoever committed them."""
    from tkcons import claims

    put(claims, "told", lambda place, committed: None)


def dead_letter() -> None:
    """A message that cannot be handled is passed over."""
    from django.db import transaction

    from tkcons import positions
    from tkcons.sinks.handler import HandlerSink

    def fail(self: HandlerSink, part: Any, failure: Any, tries: int) -> None:
        with transaction.atomic(using=self.using):
            positions.advance([part], self._keys, self.using)

    put(HandlerSink, "_fail", fail)


def letter_confirmed() -> None:
    """A dead letter is handed to the producer, and its message's offset passed, without waiting for the brokers."""
    from tk import producer
    from tkcons import deadletters

    def send(letter: Any, topic: str) -> None:
        record = producer.Record(topic, bytes(letter.value), None, deadletters._headers(letter))
        producer.current().send(record, lambda outcome: None)

    put(deadletters, "send", send)


def letter_id() -> None:
    """A dead letter's id is drawn, not derived from its message's place."""
    import uuid

    from tkcons import deadletters

    real = deadletters.make

    def make(*arguments: Any) -> Any:
        letter = real(*arguments)
        letter.id = uuid.uuid4().hex
        return letter

    put(deadletters, "make", make)


def bounded_waits() -> None:
    """PostgreSQL lets a transaction idle, and its heir wait for the lock, as long as they like."""
    from tkcons import positions

    put(positions, "limit_waits", lambda *_: None)


def poll_thread() -> None:
    """Messages are handled on the thread that polls."""
    from tkcons.session import Session

    real = Session._receive

    def receive(self: Session, messages: Any) -> None:
        real(self, messages)
        held = self.assignment._held
        with self.assignment._change:
            self.assignment._change.wait_for(lambda: not any(h.waiting or h.in_hand for h in held.values()), 3_600)

    put(Session, "_receive", receive)


def whole_body() -> None:
    """What a client had sent before it went away is taken for the whole."""
    from tk import scope

    real = scope.Body._next

    async def read(self: Any) -> Any:
        try:
            return await real(self)
        except scope.Gone:
            return {"type": "http.request", "body": b"", "more_body": False}

    put(scope.Body, "_next", read)


def producer_after_fork() -> None:
    """A worker uses the producer that its parent made."""
    from tk import producer

    def keep() -> None:
        producer._current = made

    made = producer.current()
    os.register_at_fork(after_in_child=keep)


def growth() -> None:
    """A partition that a known topic has grown is met like the topic's first one: the group begins at its end."""
    from tkcons.sinks.database import PositionedSink

    put(PositionedSink, "knows", lambda self, topic: False)


def body_limit() -> None:
    """A body is read whole, however long."""
    from django.conf import settings

    from tk import request

    put(request, "body_limit", lambda: 1 << 40)
    settings.DATA_UPLOAD_MAX_MEMORY_SIZE = None


def bounded_queue() -> None:
    """What one who follows has not read is kept, however much it is."""
    from tkcons.viewer import hub

    put(hub, "QUEUE_BYTES", 1 << 40)


def clock() -> None:
    """Nobody looks whether the wall clock was put back."""
    from tk import clock

    put(clock, "watch", lambda put_back: None)


def orderly_end() -> None:
    """SIGTERM ends the process where it stands."""
    import signal

    signal.signal = lambda *_: None  # type: ignore[assignment]


PROTECTIONS: dict[str, Callable[[], None]] = {
    function.__name__: function
    for function in (
        acknowledgement,
        outbox,
        compare_and_set,
        one_transaction,
        cutting_off,
        event_ids,
        trying_again,
        topic_id,
        stored_position,
        told_start,
        dead_letter,
        letter_confirmed,
        letter_id,
        bounded_waits,
        poll_thread,
        whole_body,
        producer_after_fork,
        growth,
        body_limit,
        bounded_queue,
        clock,
        orderly_end,
    )
}
