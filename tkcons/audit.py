"""Whether everything that Kafka serves is stored, once: compared offset by offset, in memory that does not grow."""

import time
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any, Protocol, cast

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from tk import topics
from tk.client import client_config
from tk.errors import UnknownTopic
from tkcons import groups
from tkcons.errors import SinkUnavailable
from tkcons.models import DeadLetter, Gap, Message, Position
from tkcons.sinks.base import Place
from tkcons.sinks.file import FileSink
from tkcons.sinks.readback import Readback

RECORDS = 10_000  # of one look at Kafka and of one fetch from the database
POLL_SECONDS = 1.0
PATIENCE_SECONDS = 30.0  # without any answer of the broker
NAMED = 10  # missing or doubled offsets that are told

# Why a partition was not compared.
GONE = "the topic was deleted or made again: nothing to compare with"
HANDLED = "a handler stores nothing to compare"
MADE_AGAIN = "the topic was made again, and lines do not say of which topic they are"
OWN_LINES = "lines of its own are not compared"


@dataclass
class Report:
    """One group's partition. Counts are of offsets from where the group began to its position at the audit's start."""

    position: Position
    why_not: str = ""  # it was not compared
    stored: int = 0
    accounted: int = 0  # served by Kafka, not stored, for a recorded reason: repeat, skipped, pruned, emptied
    unserved: int = 0  # still in Kafka's range, but control records, aborted or compacted
    missing: int = 0
    duplicate: int = 0
    expired_unread: int = 0  # Kafka deleted them before the group came to them
    waiting: int = 0  # offsets from the position to Kafka's end
    dead_letters: int = 0  # of a handler's group, that nobody has settled
    missing_offsets: list[int] = field(default_factory=list)  # the first NAMED
    duplicate_offsets: list[int] = field(default_factory=list)

    @property
    def good(self) -> bool:
        return not (self.missing or self.duplicate or self.expired_unread)


class Stored(Protocol):
    """What a group has stored of one partition."""

    def offsets(self) -> Iterable[int]:
        """Those stored before the position, in the order of storing."""

    def gaps(self) -> Iterable[tuple[int, int]]:
        """Ranges (first, end) that are not stored for a recorded reason. Rising."""

    def come_to(self) -> int:
        """The position by now: the group may go on meanwhile."""


class _Rows:
    """Of a group whose positions are in this database."""

    def __init__(self, position: Position, using: str) -> None:
        self._position, self._using = position, using

    def offsets(self) -> Iterable[int]:
        rows = Message.objects.using(self._using).filter(
            position_id=self._position.pk,
            offset__gte=self._position.start_offset,
            offset__lt=self._position.next_offset,
        )
        return rows.order_by("offset").values_list("offset", flat=True).iterator(RECORDS)

    def gaps(self) -> Iterable[tuple[int, int]]:
        gaps = Gap.objects.using(self._using).filter(position_id=self._position.pk).order_by("first_offset")
        return gaps.values_list("first_offset", "end_offset").iterator(RECORDS)

    def come_to(self) -> int:
        return Position.objects.using(self._using).values_list("next_offset", flat=True).get(pk=self._position.pk)


class _Lines:
    """Of a file sink."""

    def __init__(self, position: Position, lines: Readback) -> None:
        self._position, self._lines = position, lines
        self._place = Place(position.topic, position.topic_id, position.partition)

    def offsets(self) -> Iterable[int]:
        begin, end = self._position.start_offset, self._position.next_offset
        return (offset for offset in self._lines.offsets(self._place) if begin <= offset < end)

    def gaps(self) -> Iterable[tuple[int, int]]:
        return self._lines.gaps(self._place)

    def come_to(self) -> int:
        return next(end for place, _, end in self._lines.positions() if place == self._place)


def audit(using: str, topic: str | None = None, *, files: bool = True) -> Iterator[Report]:
    """Compare each partition that is stored in this database, and in this host's files.

    Raises NotSent or SinkUnavailable without the broker, SinkUnavailable or SinkDamaged for a file that cannot be read.
    """
    chosen = Position.objects.using(using).order_by("group", "topic", "topic_id", "partition")
    for position in chosen.filter(topic=topic) if topic is not None else chosen:
        report = Report(position)
        if not position.stores:
            # That a handler's effects and its position move together is one transaction's work.
            report.why_not, report.dead_letters = HANDLED, _letters(position, using)
        yield _audit(report, _Rows(position, using))
    for sink in _file_sinks() if files else ():
        if _is_here(sink):
            yield from _files(sink, topic)


def elsewhere() -> list[str]:
    """The groups whose files are not on this host."""
    return [sink.group for sink in _file_sinks() if not _is_here(sink)]


def _file_sinks() -> list[FileSink]:
    specs = groups.specs().values()
    return [cast("FileSink", spec.sink()) for spec in specs if issubclass(spec.sink_class, FileSink)]


def _is_here(sink: FileSink) -> bool:
    return sink.beside(".positions").exists()


def _files(sink: FileSink, topic: str | None) -> Iterator[Report]:
    with closing(Readback(sink)) as lines:
        found = lines.positions()
        ids = Counter((place.topic, place.partition) for place, _, _ in found)
        for place, start, end in found:
            if topic in {None, place.topic}:
                report = Report(Position(group=sink.group, start_offset=start, next_offset=end, **place._asdict()))
                if sink.where is None:
                    report.why_not = OWN_LINES
                elif ids[place.topic, place.partition] > 1:
                    report.why_not = MADE_AGAIN
                yield _audit(report, _Lines(report.position, lines))


def compare(report: Report, served: Iterable[int], stored: Iterable[int], ranges: Iterable[tuple[int, int]]) -> None:
    """Count into the report. All three rise; ranges (first, end) may overlap; of `stored` an offset may come again."""
    rows, gaps = iter(stored), iter(ranges)
    row, gap = next(rows, None), next(gaps, None)
    last: int | None = None
    covered = -1  # the end of the gaps so far

    def take(limit: int | None) -> None:
        """Count the rows up to this offset, it included; None: all."""
        nonlocal row, last
        while row is not None and (limit is None or row <= limit):
            if last is not None and row <= last:
                _name(report.duplicate_offsets, row)
                report.duplicate += 1
            else:
                report.stored += 1
                last = row
            row = next(rows, None)

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


def _audit(report: Report, stored: Stored) -> Report:
    position = report.position
    if _is_gone(position):
        if not report.why_not:
            report.why_not = GONE
            compare(report, (), stored.offsets(), stored.gaps())
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
        low, end = consumer.get_watermark_offsets(place, timeout=PATIENCE_SECONDS)
        report.waiting = max(0, end - position.next_offset)
        first = max(low, position.start_offset)
        # The group may have gone on since the audit's start: what it has read by now did not expire unread.
        report.expired_unread = max(0, low - stored.come_to())
        if report.why_not:
            return report
        seen = 0

        def served() -> Iterator[int]:
            nonlocal seen
            for offset in _served(consumer, position, first):
                seen += 1
                yield offset

        compare(report, served(), stored.offsets(), stored.gaps())
        report.unserved = max(0, position.next_offset - first - seen)
    except KafkaException as error:
        raise SinkUnavailable(f"Kafka does not answer the audit: {error.args[0].str()}") from error
    finally:
        consumer.close()
    return report


def _is_gone(position: Position) -> bool:
    try:
        return topics.get(position.topic, 0).id != position.topic_id
    except UnknownTopic:
        return True


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
