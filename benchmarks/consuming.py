"""What the benchmarks of consuming share: a full topic, the raw loop, and the product's runner in this process."""

import contextlib
import os
import shutil
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from benchmarks.harness import Figures, scratch
from tklocal.kafka import Cluster

if TYPE_CHECKING:
    from tkcons.sinks.base import Batch, Sink

VALUE = 100  # bytes
BATCH = 10_000  # records, as TKCONS["BATCH"]
PATIENCE = 120.0  # seconds until a run counts as hanging


class Meter:
    """The rate from the end of the first batch to the end of the last: joining a group and connecting are not in it."""

    def __init__(self, wanted: int) -> None:
        self.wanted = wanted
        self.count = self.first = 0
        self.began = self.ended = 0.0
        self.done = threading.Event()

    def add(self, count: int) -> None:
        now = time.perf_counter()
        if not self.count:
            self.began, self.first = now, count
        self.count += count
        if self.count >= self.wanted:
            self.ended = now
            self.done.set()

    @property
    def figures(self) -> Figures:
        return {"records/s": (self.count - self.first) / (self.ended - self.began)}


def fill(kafka: Cluster, count: int, *, partitions: int = 1, topic: str = "") -> str:
    """Make a topic with so many messages of 100 bytes, spread evenly; gives its name."""
    topic = topic or f"bench-{uuid.uuid4().hex[:8]}"
    admin = AdminClient({"bootstrap.servers": kafka.bootstrap})
    admin.create_topics([NewTopic(topic, num_partitions=partitions, replication_factor=1)])[topic].result(30)
    producer = Producer(
        {"bootstrap.servers": kafka.bootstrap, "linger.ms": 20, "queue.buffering.max.messages": 200_000, "acks": "all"}
    )
    for first in range(0, count, BATCH):
        while len(producer) > 10 * BATCH:
            producer.poll(0.01)
        for number in range(first, min(first + BATCH, count)):
            producer.produce(topic, b"%0*d" % (VALUE, number), partition=number % partitions)
    assert producer.flush(60) == 0
    return topic


def raw(
    kafka: Cluster, topic: str, count: int, store: Callable[[list[Any]], None] | None, size: int = BATCH
) -> Figures:
    """``consume(size)`` on a tuned client, each batch given to `store`, until so many have come."""
    from tkcons.session import FIXED, defaults

    config = {**defaults(), **FIXED, "bootstrap.servers": kafka.bootstrap, "group.id": "raw"}
    consumer = Consumer({**config, "auto.offset.reset": "earliest"})
    meter = Meter(count)
    partitions = consumer.list_topics(topic).topics[topic].partitions
    consumer.assign([TopicPartition(topic, partition, 0) for partition in partitions])
    deadline = time.monotonic() + PATIENCE
    while not meter.done.is_set():
        messages = consumer.consume(size, 0.02)
        if messages:
            if store is not None:
                store(messages)
            meter.add(len(messages))
        assert time.monotonic() < deadline, f"{meter.count} of {count} came"
    consumer.close()
    return meter.figures


def product(sink_class: "type[Sink]", topic: str, count: int, **options: Any) -> Figures:
    """The product's runner with this sink, under a new group, until so many are stored."""
    from tkcons.groups import Heartbeat, Spec
    from tkcons.runner import Runner

    meter = Meter(count)

    class Metered(sink_class):  # type: ignore[misc, valid-type]
        def write(self, batches: "Sequence[Batch]") -> int | None:
            end: int | None = super().write(batches)
            for batch in batches:
                meter.add((batch.end if end is None else end) - batch.claim.next_offset)
            return end

    spec = Spec(f"bench-{uuid.uuid4().hex[:8]}", (topic,), Metered, options)
    runner = Runner(spec, Heartbeat(spec.name, in_web=False))
    thread = threading.Thread(target=runner.run)
    thread.start()
    try:
        assert meter.done.wait(PATIENCE), f"{meter.count} of {count} were stored; {runner.error}"
    finally:
        runner.stop()
        thread.join(30)
    return meter.figures


@contextlib.contextmanager
def project(kafka: Cluster, database: str = "") -> Iterator[Path]:
    """Django set up in this process on this broker, the database (a URL; default: SQLite) migrated; gives its folder."""
    import django
    from django.core.management import call_command
    from django.db import connections

    with scratch() as folder:
        os.environ |= {"DATA": str(folder), "KAFKA_BROKER_URL": kafka.bootstrap}
        os.environ["DATABASE_URL"] = database or f"sqlite:///{folder / 'db.sqlite3'}"
        os.environ["DJANGO_SETTINGS_MODULE"] = "benchmarks.settings"
        django.setup()
        call_command("migrate", verbosity=0)
        connections.close_all()
        yield folder


def renew(path: Path) -> None:
    """Put the freshly migrated SQLite database back in its place; the first call keeps it."""
    kept = path.with_suffix(".kept")
    if not kept.exists():
        shutil.copy(path, kept)
    for ending in ("-wal", "-shm"):
        path.with_name(path.name + ending).unlink(missing_ok=True)
    shutil.copy(kept, path)
