"""The test stand of a scenario: the product's own processes, with a folder, a topic and a database of their own."""

import contextlib
import os
import random
import socket
import sqlite3
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
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
from tklocal.child import Child

GROUPS = {"database": "tkcons.database", "file": "tkcons.file", "text": "tkcons.text", "handler": "faults.handler"}
LONG = os.environ.get("FAULTS") == "long"
ANSWER_SECONDS = 13.0  # the default REQUEST_TIMEOUT, one look at the cluster, and a busy machine
SECONDS = 90.0  # for a recovery; measured ones are shorter, but other work may run on the machine


def eventually(look: Callable[[], Any], seconds: float = SECONDS) -> Any:
    """As tests.waiting.eventually, for looks that cost something."""
    deadline = time.monotonic() + seconds
    while not (answer := look()):
        assert time.monotonic() < deadline, f"not within {seconds} s; last seen: {answer!r}"
        time.sleep(0.2)
    return answer


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
        self.journal = Journal(folder / "journal")
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

    def delete_topic(self) -> None:
        self.servers.admin.delete_topics([self.topic])[self.topic].result(timeout=20)
        eventually(lambda: not self._partitions(self.topic), 30)

    def add_partitions(self, count: int) -> None:
        self.servers.admin.create_partitions([NewPartitions(self.topic, count)])[self.topic].result(timeout=20)

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

    def in_sync(self) -> bool:
        """Whether every partition has its three copies: the next broker may die."""
        found = self._partitions(self.topic)
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
        """`manage.py consume` of these groups, by the names of GROUPS; default: all."""
        names = [GROUPS[name] for name in groups or GROUPS]
        more = ["--processes", str(processes)] if processes > 1 else []
        return self.manage("consume", *more, *names, **env)

    def relay(self, **env: str) -> Child:
        return self.manage("relay", **env)

    def members(self, group: str) -> int:
        """How many the brokers know; group: one of the names of GROUPS."""
        name = GROUPS[group]
        return len(self.servers.admin.describe_consumer_groups([name], request_timeout=10)[name].result().members)

    def web(self, port: int = 0, workers: int = 1, **env: str) -> "Web":
        port = port or free_port()
        command = [sys.executable, "-m", "granian", "--interface", "asgi", "--host", "127.0.0.1", "--port", str(port)]
        command += ["--workers", str(workers), "--respawn-failed-workers", "--log-level", "warning"]
        return self.serve([*command, "--workers-kill-timeout", "10", "tutorialkafka.asgi:application"], port, **env)

    def serve(self, command: Sequence[str], port: int, **env: str) -> "Web":
        return Web(self.start(command, **env), f"http://127.0.0.1:{port}", port)

    def end(self, child: Child, seconds: float = 40) -> int:
        """SIGTERM; gives the exit code."""
        self.children.remove(child)
        return child.stop(seconds)

    def close(self) -> None:
        self.journal.close()
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                if process.environ().get("FAULTS_STEPS") == str(self.folder / "steps"):
                    process.kill()  # grandchildren too, and those that nobody is the parent of any more
        for child in self.children:
            child.wait()
        self.children.clear()

    # Load.

    def clients(self, *webs: "Web", path: str = "/tkprod", **options: Any) -> Clients:
        for web in webs:
            web.wait()
        urls = [web.url + path for web in webs]
        return Clients(self.journal, urls, self.topic, self.token, seed=self.unique(), **options)

    def records(self, partitions: int = 3, **options: Any) -> Records:
        return Records(
            self.journal, self.kafka.bootstrap, self.topic, seed=self.unique(), partitions=partitions, **options
        )

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
            return len(self.stored(store)[0])
        except (psycopg.Error, sqlite3.Error):
            return -1

    def positions(self) -> list[tuple[int, int, int]]:
        """Row, next offset and generation of each position in the database."""
        return self.servers.sql("SELECT id, next_offset, generation FROM tkcons_position", self.name)

    def cut_connections(self) -> None:
        """The product's connections to PostgreSQL are ended, whatever they are doing."""
        self.servers.sql(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{self.name}'")  # noqa: S608  made here

    def use_sqlite(self) -> None:
        self.sqlite = self.folder / "store.sqlite3"
        self.database = f"sqlite:///{self.sqlite}"
        self.token = make_database(self.database, self.folder)

    def stored(self, store: str) -> tuple[list[Stored], int]:
        match store:
            case "database":
                return checker.in_database(self.database), 0
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

    def verdict(self, *stores: str, seconds: float = SECONDS, poison: bool = False) -> None:
        """Wait until what Kafka has is stored, then let the checker say what became of each request.

        poison: the handler's messages that end with it belong to the dead letters and the others to its effects.
        """
        deadline = time.monotonic() + (seconds if not self.removed else min(seconds, 30))
        sent = checker.in_kafka(self.kafka.bootstrap, self.topic)
        for store in stores:
            while not self._is_through(sent, store, poison=poison) and time.monotonic() < deadline:
                time.sleep(0.3)
        time.sleep(1)  # what would be stored twice comes late
        self.reports += [self._report(store, poison=poison) for store in stores]
        crashed = [value for value, request in self.read_journal().requests.items() if request.status == 500]
        if crashed:
            self.broke("status 500", f"{len(crashed)} answers")

    def answered_in_time(self) -> None:
        late = [
            request.seconds for request in self.read_journal().requests.values() if request.seconds > ANSWER_SECONDS
        ]
        if late:
            self.broke("bounded time", f"{len(late)} answers took up to {max(late):.1f} s")

    def read_journal(self) -> checker.Journal:
        return checker.read_journal(self.folder / "journal")

    def broke(self, promise: str, how: str) -> None:
        """Another promise than those about messages was seen broken."""
        self.broken[promise] = how

    def _report(self, store: str, *, poison: bool) -> Report:
        journal = self.read_journal()
        if poison and store in {"handler", "letters", "letters sent"}:
            wanted = store != "handler"
            journal.requests = {v: r for v, r in journal.requests.items() if v.endswith(".poison") == wanted}
        stored, torn = self.stored(store)
        return checker.compare(journal, stored, store, torn=torn)

    def _is_through(self, sent: list[Stored], store: str, *, poison: bool) -> bool:
        wanted = {row.value for row in sent}
        if poison and store in {"handler", "letters", "letters sent"}:
            wanted = {value for value in wanted if value.endswith(".poison") == (store != "handler")}
        with contextlib.suppress(psycopg.Error):
            return wanted <= {row.value for row in self.stored(store)[0]}
        return False


class Web:
    """A web server under test."""

    def __init__(self, child: Child, url: str, port: int) -> None:
        self.child = child
        self.url = url
        self.port = port

    def wait(self, seconds: float = 60) -> None:
        eventually(self._answers, seconds)

    def _answers(self) -> bool:
        with contextlib.suppress(httpx.HTTPError):
            return httpx.get(f"{self.url}/healthz", timeout=5, trust_env=False).status_code == 200
        return False

    def memory(self) -> int:
        """Resident bytes of the server and its workers."""
        parent = psutil.Process(self.child.pid)
        return sum(process.memory_info().rss for process in [parent, *parent.children(recursive=True)])

    @contextmanager
    def memory_watched(self) -> Iterator[Callable[[], int]]:
        """Gives what tells how many MB more than at the beginning it has had at most."""
        before, most, ending = self.memory(), [0], threading.Event()

        def look() -> None:
            while not ending.wait(0.05):
                most[0] = max(most[0], self.memory() - before)

        looking = threading.Thread(target=look)
        looking.start()
        try:
            yield lambda: most[0] >> 20
        finally:
            ending.set()
            looking.join()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port: int = listening.getsockname()[1]
        return port
