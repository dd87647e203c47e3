"""The test stand of a scenario: the product's own processes, with a folder, a topic and a database of their own."""

import contextlib
import os
import random
import sqlite3
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import psycopg
import pytest
from confluent_kafka import ElectionType, KafkaException, TopicCollection
from confluent_kafka.admin import AlterConfigOpType, ConfigEntry, ConfigResource, NewPartitions, NewTopic

from tests.faults import checker
from tests.faults.checker import Report, Stored
from tests.faults.inside.steps import Armed
from tests.faults.load import Clients, Journal, Records
from tests.faults.servers import ROOT, Servers, make_database
from tests.faults.web import Web, free_port
from tests.waiting import eventually as soon
from tklocal.child import Child

GROUPS = {"database": "tkcons.database", "file": "tkcons.file", "text": "tkcons.text", "handler": "faults.handler"}
SECOND = {"sqlite": "tkcons.sqlite"}  # of a second database, where FAULTS_SQLITE names it
LONG = os.environ.get("FAULTS") == "long"
ANSWER_SECONDS = 13.0  # the default REQUEST_TIMEOUT, one look at the cluster, and a busy machine
SECONDS = 90.0  # for a recovery; measured ones are shorter, but other work may run on the machine


def eventually(look: Callable[[], Any], seconds: float = SECONDS) -> Any:
    """As tests.waiting.eventually, for looks that cost something."""
    return soon(look, seconds, 0.2)


def protected_by(name: str, fault: str) -> pytest.MarkDecorator:
    """Run the scenario as it is and, in the long form, with this protection taken out: the checker must find the fault."""
    kept = pytest.param(("", ""), id="kept")
    without = pytest.param((name, fault), id=f"without-{name}", marks=pytest.mark.long)
    return pytest.mark.parametrize("stand", [kept, without], indirect=True)


class Stand:
    """One scenario's part of the servers. removed: protections that are taken out of the product's processes."""

    def __init__(self, servers: Servers, folder: Path, *, seed: int, removed: str = "") -> None:
        self.servers = servers
        self.kafka = servers.kafka
        self.folder = folder
        self.seed = seed
        self.removed = removed
        self.draw = random.Random(seed)
        self.name = f"f{uuid.uuid4().hex[:8]}"
        self.topic = self.name
        self.token = servers.token
        self.database = servers.url(self.name)
        self.files = folder / "files"
        self.files.mkdir()
        self.journals: dict[str, Journal] = {}
        self.journal = self.journal_of(self.topic)
        self.steps = Armed(folder / "steps")
        self.children: list[Child] = []
        self.reports: list[Report] = []
        self.broken: dict[str, str] = {}  # promises that are not about messages, and how
        self.said: list[str] = []  # for the summary
        self.partitions = 0
        self._logs = 0
        self._log_of: dict[int, Path] = {}
        servers.sql(f"CREATE DATABASE {self.name} TEMPLATE template")

    # Topics.

    def make_topic(self, partitions: int = 3, name: str = "", **config: str) -> None:
        self.partitions = partitions if not name else self.partitions
        name = name or self.topic
        options = {key.replace("_", "."): value for key, value in config.items()}
        new = NewTopic(name, num_partitions=partitions, replication_factor=3, config=options)
        self.servers.admin.create_topics([new])[name].result(timeout=20)
        eventually(lambda: self._partitions(name), 30)

    def delete_topic(self, name: str = "") -> None:
        name = name or self.topic
        self.servers.admin.delete_topics([name])[name].result(timeout=20)
        eventually(lambda: not self._partitions(name), 30)

    def add_partitions(self, count: int, name: str = "") -> None:
        name = name or self.topic
        self.servers.admin.create_partitions([NewPartitions(name, count)])[name].result(timeout=20)
        eventually(lambda: len(self._partitions(name)) == count, 30)

    def count_partitions(self, name: str) -> int:
        return len(eventually(lambda: self._partitions(name), 30))

    def configure(self, topic: str, name: str, value: str) -> None:
        entry = ConfigEntry(name, value, incremental_operation=AlterConfigOpType.SET)
        resource = ConfigResource(ConfigResource.Type.TOPIC, topic, incremental_configs=[entry])
        for future in self.servers.admin.incremental_alter_configs([resource]).values():
            future.result(timeout=20)

    def _partitions(self, name: str) -> list[Any]:
        with contextlib.suppress(KafkaException):
            seen = self.servers.admin.describe_topics(TopicCollection([name]), request_timeout=5)[name].result()
            if all(partition.leader is not None for partition in seen.partitions):
                return list(seen.partitions)
        return []

    def in_sync(self, name: str = "") -> bool:
        """Whether every partition has its three copies: the next broker may die."""
        found = self._partitions(name or self.topic)
        return bool(found) and all(len(partition.isr) == 3 for partition in found)

    def leader(self, partition: int = 0) -> int:
        return int(eventually(lambda: self._partitions(self.topic), 30)[partition].leader.id)

    def move_leaders(self) -> None:
        """Back to the preferred brokers, under load."""
        with contextlib.suppress(KafkaException):
            self.servers.admin.elect_leaders(ElectionType.PREFERRED).result(timeout=20)

    # Processes.

    def environment(self, **more: str) -> dict[str, str]:
        return {
            "KAFKA_BROKER_URL": self.kafka.bootstrap,
            "DATABASE_URL": self.database,
            "DATA": str(self.folder),
            "DJANGO_SETTINGS_MODULE": "tests.faults.inside.settings",
            "FAULTS_TOPIC": self.topic,
            "FAULTS_FILES": str(self.files),
            "FAULTS_STEPS": str(self.folder / "steps"),
            "FAULTS_WITHOUT": self.removed,
            "PYTHONPATH": str(ROOT),
            **more,
        }

    def start(self, command: Sequence[str], **env: str) -> Child:
        self._logs += 1
        log = self.folder / f"{self._logs:02}-{Path(command[-1]).name[:20]}.log"
        child = Child(command, log, env=self.environment(**env))
        self.children.append(child)
        self._log_of[child.pid] = log
        return child

    def wait_started(self, child: Child) -> None:
        """Until the command has said what it does: from then on it obeys signals."""
        eventually(lambda: b"Ctrl-C ends it" in self._log_of[child.pid].read_bytes() or not child.alive)

    def manage(self, *arguments: str, **env: str) -> Child:
        return self.start([sys.executable, str(ROOT / "manage.py"), *arguments], **env)

    def consume(self, *groups: str, processes: int = 1, **env: str) -> Child:
        """`manage.py consume` of these groups, by the names of GROUPS and SECOND; default: all of GROUPS."""
        names = [(GROUPS | SECOND)[name] for name in groups or GROUPS]
        more = ["--processes", str(processes)] if processes > 1 else []
        return self.manage("consume", *more, *names, **env)

    def relay(self, **env: str) -> Child:
        return self.manage("relay", **env)

    def members(self, group: str) -> int:
        """How many the brokers know; group: one of the names of GROUPS."""
        name = GROUPS[group]
        return len(self.servers.admin.describe_consumer_groups([name], request_timeout=10)[name].result().members)

    def web(self, port: int = 0, workers: int = 1, **env: str) -> Web:
        port = port or free_port()
        command = [sys.executable, "-m", "granian", "--interface", "asgi", "--host", "127.0.0.1", "--port", str(port)]
        command += ["--workers", str(workers), "--respawn-failed-workers", "--log-level", "warning"]
        return self._serve([*command, "--workers-kill-timeout", "10", "tutorialkafka.asgi:application"], port, **env)

    def preloaded_web(self, port: int = 0, threads: int = 2, **env: str) -> Web:
        """gunicorn, whose two workers are forked from a parent that has loaded the application and made a producer."""
        port = port or free_port()
        command = [sys.executable, "-m", "gunicorn", "--preload", "--workers", "2", "--threads", str(threads)]
        command += ["--bind", f"127.0.0.1:{port}", "tutorialkafka.wsgi:application"]
        return self._serve(command, port, FAULTS_PRELOAD="1", **env)

    def _serve(self, command: Sequence[str], port: int, **env: str) -> Web:
        return Web(self.start(command, **env), f"http://127.0.0.1:{port}", port)

    def end(self, child: Child, seconds: float = 40) -> int:
        """SIGTERM; gives the exit code."""
        self.children.remove(child)
        return child.stop(seconds)

    def close(self) -> None:
        for journal in self.journals.values():
            journal.close()
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                if process.environ().get("FAULTS_STEPS") == str(self.folder / "steps"):
                    process.kill()  # grandchildren too, and those that nobody is the parent of any more
        for child in self.children:
            child.wait()
        self.children.clear()

    # Load.

    def journal_of(self, topic: str) -> Journal:
        if topic not in self.journals:
            self.journals[topic] = Journal(self.folder / "journal" / topic)
        return self.journals[topic]

    def clients(self, *webs: Web, path: str = "/tkprod", topic: str = "", **options: Any) -> Clients:
        for web in webs:
            web.wait()
        urls, topic = [web.url + path for web in webs], topic or self.topic
        return Clients(self.journal_of(topic), urls, topic, self.token, seed=self.unique(), **options)

    def records(self, partitions: int = 3, topic: str = "", **options: Any) -> Records:
        topic = topic or self.topic
        journal = self.journal_of(topic)
        return Records(journal, self.kafka.bootstrap, topic, seed=self.unique(), partitions=partitions, **options)

    def unique(self) -> str:
        return f"{self.seed}.{uuid.uuid4().hex[:4]}"

    @contextmanager
    def fault(self, what: str) -> Iterator[None]:
        """Around what is done to the system: the end of it is noted in the journal, for the recovery's seconds."""
        self.journal.mark(what)
        yield
        self.journal.mark("fault ended")

    def kill_at(self, step: str, seconds: float = SECONDS, action: str = "kill") -> int:
        """Arm a step and wait until a process has come to it; gives its id."""
        self.steps.arm(step, action)
        return eventually(lambda: self.steps.taken_by(step), seconds)

    # Looking.

    def wait_stored(self, count: int, store: str = "database", seconds: float = SECONDS) -> None:
        """Until so many more are stored than now."""
        wanted = eventually(lambda: self._count(store) + 1, seconds) - 1 + count
        eventually(lambda: self._count(store) >= wanted, seconds)

    def wait_everywhere(self, count: int) -> None:
        """Until each partition's position is so many further than now; without the protection, for a while."""
        eventually(lambda: len(self.positions()) >= self.partitions)
        wanted = {row: offset + count for row, offset, _ in self.positions()}
        seconds = 25 if self.removed else SECONDS
        try:
            eventually(lambda: all(offset >= wanted[row] for row, offset, _ in self.positions()), seconds)
        except AssertionError:
            if not self.removed:
                raise
            self.broke("recovery", f"a partition stood still for {seconds} s")

    def _count(self, store: str) -> int:
        """How many are stored; -1: the store does not answer."""
        try:
            if store == "database":
                return checker.count_in_database(self.database, GROUPS[store], self.topic)
            return len(self.stored(store)[0])
        except (psycopg.Error, sqlite3.Error):
            return -1

    def positions(self) -> list[tuple[int, int, int]]:
        """Row, next offset and generation of each position in the database."""
        return self.servers.sql("SELECT id, next_offset, generation FROM tkcons_position", self.name)

    def cut_connections(self) -> None:
        """The product's connections to PostgreSQL are ended, whatever they are doing."""
        self.servers.sql(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{self.name}'")  # noqa: S608  made here

    def add_sqlite(self) -> dict[str, str]:
        """A second database, for the group of SECOND; gives the environment of processes that use it."""
        self.second = self.folder / "second.sqlite3"
        make_database(f"sqlite:///{self.second}", self.folder)
        return {"FAULTS_SQLITE": str(self.second)}

    def use_sqlite(self) -> None:
        self.sqlite = self.folder / "store.sqlite3"
        self.database = f"sqlite:///{self.sqlite}"
        self.token = make_database(self.database, self.folder)

    def stored(self, store: str, topic: str = "") -> tuple[list[Stored], int]:
        """Of one topic, where the store holds several; and how many of its lines are no message."""
        rows, torn = self._read(store)
        return [row for row in rows if row.topic in {topic or self.topic, ""}], torn

    def _read(self, store: str) -> tuple[list[Stored], int]:
        match store:
            case "database":
                return checker.in_database(self.database, GROUPS[store]), 0
            case "sqlite":
                return checker.in_database(f"sqlite:///{self.second}", SECOND[store]), 0
            case "handler":
                return checker.effects_in(self.database), 0
            case "file":
                return checker.in_json_lines(self.files / "messages.jsonl")
            case "text":
                return checker.in_text(self.files / "consumed_messages.txt")
            case "letters":
                return checker.letters_in(self.database), 0
            case "letters sent":
                return checker.letters_sent(self.kafka.bootstrap, f"{self.topic}.dead"), 0
        raise ValueError(store)

    def verdict(self, *stores: str, topic: str = "", seconds: float = SECONDS, poison: bool = False) -> None:
        """Wait until what Kafka has is stored, then let the checker say what became of each request.

        poison: the handler's messages that end with it belong to the dead letters and the others to its effects.
        """
        deadline = time.monotonic() + (seconds if not self.removed else min(seconds, 30))
        self.wait_through(*stores, topic=topic, deadline=deadline, poison=poison)
        time.sleep(1)  # what would be stored twice comes late
        self.reports += [self._report(store, topic, poison=poison) for store in stores]
        crashed = [value for value, request in self.read_journal(topic).requests.items() if request.status == 500]
        if crashed:
            self.broke("status 500", f"{len(crashed)} answers")

    def answered_in_time(self) -> None:
        late = [
            request.seconds for request in self.read_journal().requests.values() if request.seconds > ANSWER_SECONDS
        ]
        if late:
            self.broke("bounded time", f"{len(late)} answers took up to {max(late):.1f} s")

    def wait_through(self, *stores: str, topic: str = "", deadline: float, poison: bool = False) -> bool:
        """Until what Kafka has now is stored; False: it was not by the deadline."""
        sent = checker.in_kafka(self.kafka.bootstrap, topic or self.topic)
        while left := [store for store in stores if not self._is_through(sent, store, topic, poison=poison)]:
            if time.monotonic() > deadline:
                return False
            stores = tuple(left)
            time.sleep(0.3)
        return True

    def read_journal(self, topic: str = "") -> checker.Journal:
        return checker.read_journal(self.folder / "journal" / (topic or self.topic))

    def broke(self, promise: str, how: str) -> None:
        """Another promise than those about messages was seen broken."""
        self.broken[promise] = how

    def _report(self, store: str, topic: str, *, poison: bool) -> Report:
        journal = self.read_journal(topic)
        if poison and store in {"handler", "letters", "letters sent"}:
            wanted = store != "handler"
            journal.requests = {v: r for v, r in journal.requests.items() if v.endswith(".poison") == wanted}
        stored, torn = self.stored(store, topic)
        return checker.compare(journal, stored, store + topic.removeprefix(self.topic), torn=torn)

    def _is_through(self, sent: list[Stored], store: str, topic: str, *, poison: bool) -> bool:
        wanted = {row.value for row in sent}
        if poison and store in {"handler", "letters", "letters sent"}:
            wanted = {value for value in wanted if value.endswith(".poison") == (store != "handler")}
        with contextlib.suppress(psycopg.Error, sqlite3.Error):
            return wanted <= {row.value for row in self.stored(store, topic)[0]}
        return False
