"""What the benchmarks of consuming share: a full topic, and the two sides, each in a process of its own."""

import contextlib
import json
import os
import subprocess
import sys
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewTopic

from benchmarks.harness import ROOT, Figures, scratch
from tklocal.kafka import Cluster

VALUE = 100  # bytes
BATCH = 10_000
PATIENCE = 180.0  # seconds until a process counts as hanging
GOAL = 0.80


def fill(kafka: Cluster, count: int, *, partitions: int = 1) -> str:
    """Make a topic with so many messages of 100 bytes, spread evenly; gives its name."""
    topic = f"bench-{uuid.uuid4().hex[:8]}"
    make_topic(kafka, topic, partitions)
    producer = Producer(
        {"bootstrap.servers": kafka.bootstrap, "linger.ms": 20, "queue.buffering.max.messages": 20 * BATCH}
    )
    for first in range(0, count, BATCH):
        while len(producer) > 10 * BATCH:
            producer.poll(0.01)
        for number in range(first, min(first + BATCH, count)):
            producer.produce(topic, b"%0*d" % (VALUE, number), partition=number % partitions)
    assert producer.flush(60) == 0
    return topic


def make_topic(kafka: Cluster, topic: str, partitions: int = 1) -> None:
    admin = AdminClient({"bootstrap.servers": kafka.bootstrap})
    admin.create_topics([NewTopic(topic, num_partitions=partitions, replication_factor=1)])[topic].result(30)


@dataclass
class Side:
    """Runs the raw client and the product against one topic of a broker, with one folder and one database."""

    kafka: Cluster
    folder: Path
    topic: str
    count: int
    database: str = ""  # URL; default: SQLite in the folder

    @property
    def environment(self) -> dict[str, str]:
        return {
            **os.environ,
            "DJANGO_SETTINGS_MODULE": "benchmarks.settings",
            "DATA": str(self.folder),
            "KAFKA_BROKER_URL": self.kafka.bootstrap,
            "DATABASE_URL": self.database or f"sqlite:///{self.folder / 'db.sqlite3'}",
        }

    def manage(self, *arguments: str, **environment: str) -> str:
        """`manage.py` with these arguments; gives its last line."""
        return self._run([sys.executable, "manage.py", *arguments], environment)

    def raw(self, kind: str, where: str | Path = "") -> Figures:
        arguments = [kind, self.topic, str(self.count), str(where)]
        return _figures(self._run([sys.executable, "-m", "benchmarks.raw", *arguments], {}))

    def product(self, sink: str, **options: Any) -> Figures:
        """`manage.py consume` with a sink of benchmarks.metered, under a new group, until all is stored."""
        group = f"bench-{uuid.uuid4().hex[:8]}"
        given = {"class": f"benchmarks.metered.{sink}", "topics": [self.topic], "group": group, "count": self.count}
        return _figures(self.manage("consume", group, BENCH_SINK=json.dumps({**given, **options}, default=str)))

    def start(self, group: str, processes: int) -> "subprocess.Popen[bytes]":
        """`manage.py consume --processes N` into the database, without a meter; to be ended by the caller."""
        sink = {"class": "tkcons.sinks.DatabaseSink", "topics": [self.topic], "group": group}
        return subprocess.Popen(
            [sys.executable, "manage.py", "consume", group, "--processes", str(processes)],
            env=self.environment | {"BENCH_SINK": json.dumps(sink)},
            cwd=ROOT,
            stdout=subprocess.DEVNULL,
        )

    def _run(self, command: list[str], environment: dict[str, str]) -> str:
        done = subprocess.run(
            command, env=self.environment | environment, cwd=ROOT, stdout=subprocess.PIPE, timeout=PATIENCE, check=True
        )
        return done.stdout.decode()


def _figures(output: str) -> Figures:
    found: Figures = json.loads(output[output.index("{") :].splitlines()[0])
    return found


@contextlib.contextmanager
def side(kafka: Cluster, count: int, *, partitions: int = 1, database: str = "") -> Iterator[Side]:
    """A topic with so many messages, a folder, a migrated database."""
    with scratch() as folder:
        made = Side(kafka, folder, fill(kafka, count, partitions=partitions), count, database)
        made.manage("migrate", "-v0")
        yield made
