"""How many bytes topics take on the brokers' disks.

Kafka tells it by DescribeLogDirs, which confluent-kafka's client cannot ask; kafka-python can, where it is installed. It is
asked for this alone: a client for one question, whose every wait is bounded, and what is not answered is not known.
"""

import contextlib
import logging
from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from enum import StrEnum
from typing import Any, NamedTuple

from msgspec.structs import replace

from tk.clusters import Described, Partition
from tk.purepython import OptionUnknown, client, library
from tk.topics import ASK_SECONDS

logger = logging.getLogger(__name__)

AT_ONCE = 16  # brokers that are asked side by side

Answer = list[dict[str, Any]]  # what kafka-python gives: a dict a broker
Replicas = dict[tuple[str, int, int], int]  # topic, partition, broker: bytes


class Why(StrEnum):
    """Why a size is not known, in words for a terminal."""

    NOT_INSTALLED = "kafka-python is not installed: pip install tutorialkafka[sizes]"
    OPTION = "KAFKA_CLIENT has an option that kafka-python does not know; the log names it"
    REFUSED = "the brokers do not tell: it takes DESCRIBE on the cluster"
    NO_ANSWER = "a broker does not answer"


class Measured(NamedTuple):
    """The topics with what is known of their sizes. why: None when all of it is."""

    topics: list[Described]
    why: Why | None


def measure(topics: list[Described]) -> Measured:
    """The topics with the bytes of each replica, as far as the brokers tell them in a few times ASK_SECONDS."""
    brokers = {broker for topic in topics for p in topic.partitions for broker in p.replicas}
    if not brokers:
        return Measured(topics, None)
    try:
        answers, silent = _ask({topic.name: [p.number for p in topic.partitions] for topic in topics}, brokers)
    except ImportError:
        return Measured(topics, Why.NOT_INSTALLED)
    except OptionUnknown as error:
        logger.warning("sizes are not asked for", extra={"action": "sizes", "error": str(error)})
        return Measured(topics, Why.OPTION)
    known = _read(answers)
    measured = [
        replace(topic, partitions=tuple(_sized(topic.name, p, known) for p in topic.partitions)) for topic in topics
    ]
    if all(topic.copies is not None for topic in measured):
        return Measured(measured, None)
    return Measured(measured, Why.NO_ANSWER if silent else Why.REFUSED)


def _sized(topic: str, p: Partition, known: Replicas) -> Partition:
    return replace(p, sizes=tuple(known.get((topic, p.number, broker)) for broker in p.replicas))


def _ask(places: dict[str, list[int]], brokers: Iterable[int]) -> tuple[list[Answer], bool]:
    """What the brokers answer, and whether one was silent. Raises ImportError or OptionUnknown."""
    failed = (library().errors.KafkaError, RuntimeError, ValueError, OSError)
    with contextlib.ExitStack() as stack:
        pool = stack.enter_context(ThreadPoolExecutor(AT_ONCE))
        try:
            asker = stack.enter_context(client(ASK_SECONDS))  # closed before the pool is: that ends every question
        except failed as error:
            logger.warning("no broker tells sizes", extra={"action": "sizes", "error": str(error)})
            return [], True
        asked: list[Future[Answer]] = [pool.submit(asker.describe_log_dirs, places, [broker]) for broker in brokers]
        done, late = wait(asked, ASK_SECONDS)
        answers, silent = [], bool(late)
        for future in done:
            try:
                answers.append(future.result())
            except failed as error:
                logger.warning("a broker tells no sizes", extra={"action": "sizes", "error": str(error)})
                silent = True
        return answers, silent


def _read(answers: list[Answer]) -> Replicas:
    """A folder whose disk has failed tells nothing; a copy that is on its way to another folder does not count yet."""
    return {
        (topic["name"], partition["partition_index"], broker["broker"]): partition["partition_size"]
        for answer in answers
        for broker in answer
        for folder in broker["log_dirs"]
        for topic in folder["topics"]
        for partition in topic["partitions"]
        if not partition["is_future_key"]
    }
