"""Messages straight from Kafka, for people: a few of one partition, by offset or time. Nothing is stored.

A consumer is assigned the partition and joins no group, so that nobody's position moves. Every look ends in bounded time
and memory.
"""

import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any

import msgspec
from confluent_kafka import (
    TIMESTAMP_LOG_APPEND_TIME,
    TIMESTAMP_NOT_AVAILABLE,
    Consumer,
    KafkaError,
    KafkaException,
    TopicPartition,
)
from django.utils.translation import gettext_noop as _

from tk import clusters, topics
from tk.access import Caller, allows
from tk.client import client_config
from tk.clusters import Described, Option
from tk.errors import Forbidden, InvalidPartition, NotSent, Unauthenticated, UnknownTopic
from tk.record import dump_headers
from tkcons.groups import CONTROL
from tkcons.models import Message, Position
from tkcons.reader import VIEW
from tkcons.seeking import at_time

SEE = (VIEW, CONTROL, "tk.produce", clusters.MANAGE)  # one of them shows which topics there are
LOOK_SECONDS = 5.0  # of one look at a partition, beside the questions before it
ANSWER_SECONDS = 2.0  # of one question
LOOK_BYTES = 8_388_608  # of values and keys in one look; a single larger message is shown all the same
MOST = 200  # messages of one look
WIDER = 4  # how much further each step goes back where compaction has left nothing


class Look(msgspec.Struct, frozen=True):
    """What a look at a partition saw, oldest first. low, high: its first offset and the one after the last.

    before, after: the offsets from which to go on in both directions, None at the end. whole: False when time or memory
    ended the look early. Messages are rows that are not stored.
    """

    topic: str
    partition: int
    partitions: int
    low: int
    high: int
    messages: list[Message]
    before: int | None
    after: int | None
    whole: bool = True


def see_topics(caller: Caller) -> None:
    """Raise Unauthenticated or Forbidden unless the caller may see which topics there are."""
    if not any(map(caller.may, SEE)):
        if not caller.name:
            raise Unauthenticated
        raise Forbidden(
            _("%(name)s lacks a permission for topics: one of %(known)s."), name=caller.name, known=", ".join(SEE)
        )


def listed(caller: Caller, containing: str = "") -> list[str]:
    """The names of the topics that the caller may see. Raises Unauthenticated, Forbidden or NotSent."""
    see_topics(caller)
    return [name for name in clusters.names() if containing in name and allows(caller, name)]


def described(names: list[str], caller: Caller) -> list[Described]:
    """These topics with partitions and offsets. Raises Unauthenticated, Forbidden, InvalidTopic or NotSent."""
    see_topics(caller)
    for name in names:
        _require_seen(caller, name)
    return clusters.describe(names)


def one(name: str, caller: Caller) -> tuple[Described, list[Option]]:
    """A topic and its configuration. Raises what `described` raises, and UnknownTopic."""
    found = described([name], caller)
    if not found:
        raise UnknownTopic(_("The broker has no topic %(topic)r."), topic=name)
    return found[0], clusters.configuration(name)


def _require_seen(caller: Caller, name: str) -> None:
    granted = next(permission for permission in SEE if caller.may(permission))
    clusters.require_topic(caller, granted, name)


def look(
    caller: Caller,
    topic: str,
    partition: int,
    *,
    offset: int | None = None,
    at: datetime | None = None,
    before: int | None = None,
    limit: int = 50,
) -> Look:
    """Up to `limit` messages from an offset, from a time (aware), or those before an offset; else the newest.

    Only what is committed. Raises Unauthenticated, Forbidden, InvalidTopic, UnknownTopic, InvalidPartition, or NotSent when
    Kafka does not answer in time.
    """
    clusters.require_topic(caller, VIEW, topic)
    seen = topics.get(topic)
    if not 0 <= partition < seen.partitions:
        raise InvalidPartition(
            _("Topic %(topic)r has the partitions 0 to %(last)d."), topic=topic, last=seen.partitions - 1
        )
    limit = max(1, min(limit, MOST))
    with _consumer(limit) as consumer:
        where = TopicPartition(topic, partition)
        low, high = consumer.get_watermark_offsets(where, timeout=ANSWER_SECONDS)
        if at is not None:
            offset = at_time(consumer, topic, partition, at, high, ANSWER_SECONDS)
        if offset is None:
            end = high if before is None else min(max(before, low), high)
            messages, start, whole = _back(consumer, where, low, end, limit)
        else:
            start = min(max(offset, low), high)
            messages, end, whole = _forward(consumer, where, start, high, limit)
    return Look(
        topic,
        partition,
        seen.partitions,
        low,
        high,
        messages,
        before=start if start > low else None,
        after=end if end < high else None,
        whole=whole,
    )


def _back(consumer: Consumer, where: TopicPartition, low: int, end: int, limit: int) -> tuple[list[Message], int, bool]:
    """The last messages before `end`, where they begin, and whether that is all. Compaction may have left gaps."""
    deadline = time.monotonic() + LOOK_SECONDS
    start, step = end, limit
    while start > low and time.monotonic() < deadline:
        start, stop = max(low, start - step), start
        found: deque[Message] = deque(maxlen=limit)
        size = 0
        for message in _read(consumer, where, start, stop, deadline):
            if len(found) == limit:
                size -= _size(found[0])
            found.append(message)
            size += _size(message)
            while size > LOOK_BYTES and len(found) > 1:
                size -= _size(found.popleft())
        if found:
            return list(found), found[0].offset, time.monotonic() < deadline
        step *= WIDER
    return [], start, start <= low


def _forward(
    consumer: Consumer, where: TopicPartition, start: int, end: int, limit: int
) -> tuple[list[Message], int, bool]:
    """The first messages from `start` on, where to go on after them, and whether that is all."""
    deadline = time.monotonic() + LOOK_SECONDS
    found: list[Message] = []
    size = 0
    for message in _read(consumer, where, start, end, deadline):
        size += _size(message)
        if found and size > LOOK_BYTES:
            return found, message.offset, False
        found.append(message)
        if len(found) == limit:
            return found, message.offset + 1, True
    if time.monotonic() < deadline:
        return found, end, True
    return found, found[-1].offset + 1 if found else start, False


def _size(message: Message) -> int:
    return len(message.value or b"") + len(message.key or b"")


@contextmanager
def _consumer(limit: int) -> Iterator[Consumer]:
    options = {
        "group.id": "tkcons-browse",  # librdkafka wants one; it is never joined and commits nothing
        "enable.auto.commit": False,
        "enable.auto.offset.store": False,
        "isolation.level": "read_committed",
        "auto.offset.reset": "error",
        "enable.partition.eof": True,
        "queued.min.messages": limit,
        "queued.max.messages.kbytes": max(1, LOOK_BYTES // 1024),
    }
    consumer = Consumer(client_config(options))
    try:
        yield consumer
    except KafkaException as error:
        raise NotSent(_("Kafka does not answer (%(error)s): try again."), error=error.args[0].str()) from error
    finally:
        consumer.close()


def _read(consumer: Consumer, where: TopicPartition, start: int, end: int, deadline: float) -> Iterator[Message]:
    """The messages from `start` to before `end`, until the deadline."""
    if start >= end:
        return
    consumer.assign([TopicPartition(where.topic, where.partition, start)])
    position = Position(topic=where.topic, partition=where.partition)
    while (left := deadline - time.monotonic()) > 0:
        message: Any  # confluent_kafka's types allow for parts that a message has always
        for message in consumer.consume(MOST, min(left, 0.1)):
            error: KafkaError | None = message.error()
            if error is not None:
                if error.code() == KafkaError._PARTITION_EOF:
                    return
                raise KafkaException(error)
            if message.offset() < end:
                yield as_row(message, position)
            if message.offset() >= end - 1:
                return


def as_row(message: Any, position: Position) -> Message:
    """confluent_kafka's message as a row that is not stored: everything that shows rows shows it."""
    kind, timestamp = message.timestamp()
    return Message(
        position=position,
        offset=message.offset(),
        timestamp=None if kind == TIMESTAMP_NOT_AVAILABLE else timestamp,
        timestamp_type=1 if kind == TIMESTAMP_LOG_APPEND_TIME else 0,
        key=message.key(),
        value=message.value(),
        headers=dump_headers(tuple(message.headers() or ())),
    )
