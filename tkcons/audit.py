"""Whether everything that Kafka serves is stored, once: compared offset by offset, in memory that does not grow."""

import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from tk import topics
from tk.client import client_config
from tk.errors import UnknownTopic
from tkcons.errors import SinkUnavailable
from tkcons.models import DeadLetter, Gap, Message, Position

RECORDS = 10_000  # of one look at Kafka and of one fetch from the database
POLL_SECONDS = 1.0
PATIENCE_SECONDS = 30.0  # without any answer of the broker
NAMED = 10  # missing or doubled offsets that are told


@dataclass
class Report:
    """One group's partition. Counts are of offsets from where the group began to its position at the audit's start."""

    position: Position
    gone: bool = False  # the topic was deleted or made again: Kafka has nothing to compare with
    stored: int = 0
    accounted: int = 0  # served by Kafka, not stored, for a recorded reason: repeat, skipped, pruned
    unserved: int = 0  # still in Kafka's range, but control records, aborted or compacted
    missing: int = 0
    duplicate: int = 0
    expired_unread: int = 0  # Kafka deleted them before the group came to them
    dead_letters: int = 0  # of a handler's group, that nobody has settled
    missing_offsets: list[int] = field(default_factory=list)  # the first NAMED
    duplicate_offsets: list[int] = field(default_factory=list)

    @property
    def good(self) -> bool:
        return not (self.missing or self.duplicate or self.expired_unread)


def audit(using: str, topic: str | None = None) -> Iterator[Report]:
    """Compare each partition that is stored in this database. Raises NotSent or SinkUnavailable without the broker."""
    chosen = Position.objects.using(using).order_by("group", "topic", "topic_id", "partition")
    for position in chosen.filter(topic=topic) if topic is not None else chosen:
        yield _audit(position, using)


def compare(report: Report, served: Iterable[int], stored: Iterable[int], ranges: Iterable[tuple[int, int]]) -> None:
    """Count into the report. All three rise; ranges (first, end) may overlap; of `stored` an offset may come twice."""
    rows, gaps = iter(stored), iter(ranges)
    row, gap = next(rows, None), next(gaps, None)
    last: int | None = None
    covered = -1  # the end of the gaps so far

    def take(limit: int | None) -> None:
        """Count the rows up to this offset, it included; None: all."""
        nonlocal row, last
        while row is not None and (limit is None or row <= limit):
            if row == last:
                _name(report.duplicate_offsets, row)
                report.duplicate += 1
            else:
                report.stored += 1
            last, row = row, next(rows, None)

    for offset in served:
        take(offset)
        if last == offset:
            continue
        while gap is not None and gap[0] <= offset:
            covered, gap = max(covered, gap[1]), next(gaps, None)
        if offset < covered:
            report.accounted += 1
        else:
            _name(report.missing_offsets, offset)
            report.missing += 1
    take(None)


def _name(named: list[int], offset: int) -> None:
    if len(named) < NAMED:
        named.append(offset)


def _audit(position: Position, using: str) -> Report:
    report = Report(position)
    rows = Message.objects.using(using).filter(
        position_id=position.pk, offset__gte=position.start_offset, offset__lt=position.next_offset
    )
    gaps = Gap.objects.using(using).filter(position_id=position.pk).order_by("first_offset")
    stored = rows.order_by("offset").values_list("offset", flat=True).iterator(RECORDS)
    ranges = gaps.values_list("first_offset", "end_offset").iterator(RECORDS)
    try:
        report.gone = topics.get(position.topic, 0).id != position.topic_id
    except UnknownTopic:
        report.gone = True
    if report.gone:
        compare(report, (), stored, ranges)
        return report
    # Offsets are read without joining a group; librdkafka asks for a name all the same.
    options = {
        "group.id": "tkcons.audit",
        "enable.auto.commit": False,
        "enable.partition.eof": True,
        "auto.offset.reset": "error",
        "isolation.level": "read_committed",
        "fetch.queue.backoff.ms": 10,
    }
    consumer = Consumer(client_config(options))
    try:
        place = TopicPartition(position.topic, position.partition)
        low, _ = consumer.get_watermark_offsets(place, timeout=PATIENCE_SECONDS)
        first = max(low, position.start_offset)
        # The group may have gone on since the audit's start: what it has read by now did not expire unread.
        come_to = Position.objects.using(using).values_list("next_offset", flat=True).get(pk=position.pk)
        report.expired_unread = max(0, low - come_to)
        if not position.stores:
            # A handler stores nothing to compare: that its effects and its position move together is one transaction's work.
            report.dead_letters = _letters(position, using)
            return report
        seen = 0

        def served() -> Iterator[int]:
            nonlocal seen
            for offset in _served(consumer, position, first):
                seen += 1
                yield offset

        compare(report, served(), stored, ranges)
        report.unserved = max(0, position.next_offset - first - seen)
    except KafkaException as error:
        raise SinkUnavailable(f"Kafka does not answer the audit: {error.args[0].str()}") from error
    finally:
        consumer.close()
    return report


def _letters(position: Position, using: str) -> int:
    letters = DeadLetter.objects.using(using).filter(
        group=position.group, topic_id=position.topic_id, partition=position.partition
    )
    return letters.exclude(state__in=[DeadLetter.State.RESENT, DeadLetter.State.DISCARDED]).count()


def _served(consumer: Consumer, position: Position, first: int) -> Iterator[int]:
    """The offsets from `first` to the position that Kafka hands to a read_committed consumer."""
    end = position.next_offset
    if first >= end:
        return
    consumer.assign([TopicPartition(position.topic, position.partition, first)])
    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline:
        message: Any
        for message in consumer.consume(RECORDS, POLL_SECONDS):
            deadline = time.monotonic() + PATIENCE_SECONDS
            error = message.error()
            if error is not None:
                if error.code() == KafkaError._PARTITION_EOF:
                    return
                raise KafkaException(error)
            if message.offset() >= end:
                return
            yield message.offset()
            if message.offset() == end - 1:
                return
    raise SinkUnavailable(f"Kafka does not serve {position.topic}[{position.partition}] to the audit: try again.")
