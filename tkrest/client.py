"""The Kafka consumer of an instance: questions and commits that are bounded in time and answered in tkrest's errors."""

from collections.abc import Callable, Iterable
from collections.abc import Set as AbstractSet

import msgspec
from confluent_kafka import OFFSET_BEGINNING, OFFSET_END, Consumer, KafkaError, KafkaException, TopicPartition

from tk.client import client_config
from tk.errors import NotSent
from tkcons.options import defaults, member
from tkrest.conf import settings
from tkrest.errors import of_kafka
from tkrest.fetched import Name

ANSWER_SECONDS = 5.0  # how long a question to the broker may take
AT_ONCE = 500  # records taken from librdkafka at once


class Options(msgspec.Struct, frozen=True):
    """What the client chose. Times in ms; fetch_min_bytes -1: only the time or the largest answer ends a read."""

    embedded: str
    auto_offset_reset: str
    auto_commit: bool = True
    fetch_min_bytes: int = 1
    request_timeout_ms: int | None = None


class Client:
    """`consumer` is confluent_kafka's. For one thread at a time."""

    def __init__(self, group: str, options: Options, on_error: Callable[[KafkaError], None]) -> None:
        config = {
            **member(group, static_id=""),  # an offset that Kafka does not have is an error: see put_at
            "allow.auto.create.topics": False,
            "fetch.max.bytes": settings.FETCH_KIB * 1_024,
            "error_cb": on_error,
            "on_commit": self._on_commit,
        }
        bounded = {"queued.max.messages.kbytes": settings.FETCH_KIB, "queued.min.messages": AT_ONCE}
        self.consumer = Consumer(client_config(config, {**defaults(), **bounded}))
        self._end = {"earliest": OFFSET_BEGINNING, "latest": OFFSET_END}.get(options.auto_offset_reset)
        self.unanswered = 0  # commits
        self.refusal: KafkaError | None = None  # how the last answer to a commit refused

    def _on_commit(self, error: KafkaError | None, partitions: list[TopicPartition]) -> None:
        self.unanswered -= 1
        self.refusal = error or next((each.error for each in partitions if each.error is not None), None)

    def commit(self, offsets: list[TopicPartition]) -> None:
        """Ask for a commit. Its answer comes with librdkafka's callbacks: a synchronous commit waits without a bound."""
        self.consumer.commit(offsets=offsets, asynchronous=True)
        self.unanswered += 1

    def committed(self, names: Iterable[Name], seconds: float = ANSWER_SECONDS) -> dict[Name, TopicPartition]:
        """The group's committed offsets in these partitions, where there are some. Raises NotSent, KafkaFailed."""
        asked = [TopicPartition(*name) for name in names]
        answer = _answer(self.consumer.committed, asked, seconds)
        return {(each.topic, each.partition): each for each in answer if each.offset >= 0}

    def starts(self, names: AbstractSet[Name], lost: AbstractSet[Name], seconds: float) -> dict[Name, int]:
        """Where to begin: at the group's offset; without one, and where Kafka does not have it, as auto.offset.reset says.

        Partitions without either are missing in the answer. Raises NotSent, KafkaFailed, UnknownTopic.
        """
        found = {name: each.offset for name, each in self.committed(names, seconds).items() if name not in lost}
        return found | self._ends(names - found.keys(), seconds)

    def _ends(self, names: AbstractSet[Name], seconds: float) -> dict[Name, int]:
        """Of these partitions the first offset or that after the last; {} where none shall be chosen."""
        if not names or self._end is None:
            return {}
        # In Kafka's protocol both are times: of the earliest and the latest record.
        asked = [TopicPartition(*name, self._end) for name in names]
        answer = _answer(self.consumer.offsets_for_times, asked, seconds)
        return {(each.topic, each.partition): each.offset for each in answer}

    def watermarks(self, name: Name) -> tuple[int, int]:
        """The partition's first offset and the one after its last."""
        seen = self.consumer.get_watermark_offsets(TopicPartition(*name), timeout=ANSWER_SECONDS)
        if seen is None:
            raise NotSent("Kafka does not answer: try again.")
        low, high = seen
        return low, high

    def put_at(self, offsets: dict[Name, int]) -> None:
        """Go on from these, which are no OFFSET_BEGINNING and no OFFSET_END.

        librdkafka asks the broker what such a one is, and again by a timer where the answer came too late. Nothing takes
        that timer back: it fires after a later choice too, and the partition begins again where the earlier one was.
        Taken off and put on again: a partition that was out of range refuses to seek.
        """
        targets = [TopicPartition(*name, offset) for name, offset in offsets.items()]
        take_off(self.consumer, targets)
        self.consumer.incremental_assign(targets)
        self.consumer.resume(targets)  # a pause outlives an assignment


def _answer(
    question: Callable[..., list[TopicPartition]], asked: list[TopicPartition], seconds: float
) -> list[TopicPartition]:
    try:
        answer = question(asked, timeout=seconds)
    except KafkaException as error:
        raise of_kafka(error.args[0]) from error
    for each in answer:
        if each.error is not None:
            raise of_kafka(each.error)
    return answer


def take_off(consumer: Consumer, partitions: Iterable[TopicPartition]) -> None:
    """Read these no longer. Some may not be read yet: librdkafka would refuse them all."""
    read = {(each.topic, each.partition) for each in consumer.assignment()}
    consumer.incremental_unassign([each for each in partitions if (each.topic, each.partition) in read])
