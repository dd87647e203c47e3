"""The product as it runs: `make run` in a folder, or a web server alone, on free ports."""

import contextlib
import http.client
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmarks.harness import ROOT, scratch
from tklocal.kafka import Cluster

PATIENCE = 120.0


@dataclass
class Site:
    """A running web server. token: an API token that may produce, or nothing where none is wanted."""

    port: int
    process: "subprocess.Popen[str]"
    token: str = ""
    seconds: float = 0.0  # from the start of the process until it was ready

    def connect(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)

    @property
    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.token}"} if self.token else {}


@contextlib.contextmanager
def make_run(folder: Path) -> Iterator[Site]:
    """What `make run` starts, all its data in the folder; ready when everything answers."""
    port, kafka_port = free_ports(2)
    environment = {key: value for key, value in os.environ.items() if key not in {"KAFKA_BROKER_URL", "DATABASE_URL"}}
    environment |= {
        "DATA": str(folder),
        "TUTORIALKAFKA_CHECKOUT": "1",
        "PORT": str(port),
        "KAFKA_PORT": str(kafka_port),
    }
    began = time.perf_counter()
    with _process([sys.executable, "manage.py", "runall"], environment) as process:
        assert process.stdout is not None
        assert any("Everything runs" in line for line in process.stdout), "make run did not start"
        yield Site(port, process, seconds=time.perf_counter() - began)


@contextlib.contextmanager
def web(kafka: Cluster) -> Iterator[Site]:
    """Production's settings, SQLite, one worker of granian, and a token that may produce."""
    with scratch() as folder:
        environment = {
            **os.environ,
            "DJANGO_SETTINGS_MODULE": "benchmarks.settings",
            "SECRET_KEY": "only-for-benchmarks-" + "x" * 50,
            "ALLOWED_HOSTS": "127.0.0.1",
            "DATA": str(folder),
            "DATABASE_URL": f"sqlite:///{folder / 'db.sqlite3'}",
            "KAFKA_BROKER_URL": kafka.bootstrap,
        }
        manage = [sys.executable, "manage.py"]
        subprocess.run([*manage, "migrate", "-v0"], cwd=ROOT, env=environment, check=True)
        made = subprocess.run(
            [*manage, "token", "create", "bench", "--scope", "tk.produce"],
            cwd=ROOT,
            env=environment,
            check=True,
            stdout=subprocess.PIPE,
            text=True,
        )
        (port,) = free_ports(1)
        server = [sys.executable, "-m", "granian", "--interface", "asgi", "--host", "127.0.0.1", "--port", str(port)]
        with _process([*server, "--log-level", "warning", "tutorialkafka.asgi:application"], environment) as process:
            site = Site(port, process, made.stdout.split()[-1])
            deadline = time.monotonic() + PATIENCE
            while not _ready(site):
                assert time.monotonic() < deadline, "the web server did not start"
                assert process.poll() is None, "the web server ended"
                time.sleep(0.1)
            yield site


@contextlib.contextmanager
def _process(command: list[str], environment: dict[str, str]) -> Iterator["subprocess.Popen[str]"]:
    process = subprocess.Popen(
        command,
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=PATIENCE)


def _ready(site: Site) -> bool:
    try:
        connection = site.connect()
        connection.request("GET", "/readyz")
        return connection.getresponse().status == 200
    except OSError:
        return False


def free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [each.getsockname()[1] for each in sockets]
