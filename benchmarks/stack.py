"""The product as it runs: what `make run` starts, in a folder of its own, on free ports, and what a server needs
that is put under load."""

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

from benchmarks.harness import ROOT

PATIENCE = 120.0


@dataclass
class Site:
    """What `make run` has started; `port` is the web server's."""

    port: int
    process: "subprocess.Popen[str]"
    seconds: float  # from the start of the process until it was ready

    def connect(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)


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
        yield Site(port, process, time.perf_counter() - began)


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


def for_load(data: Path, bootstrap: str) -> tuple[dict[str, str], str]:
    """The environment of a server with production's settings whose database is made in the folder, and a token that may
    produce."""
    environment = {
        **os.environ,
        "DJANGO_SETTINGS_MODULE": "tutorialkafka.settings_test",
        "DATA": str(data),
        "KAFKA_BROKER_URL": bootstrap,
        "LOG_LEVEL": "WARNING",
    }
    manage = [sys.executable, "manage.py"]
    subprocess.run([*manage, "migrate", "-v0"], cwd=ROOT, env=environment, check=True)
    make = [*manage, "token", "create", "bench", "--scope", "tk.produce"]
    told = subprocess.run(make, cwd=ROOT, env=environment, check=True, capture_output=True, text=True)
    return environment, told.stdout.strip()


def free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [each.getsockname()[1] for each in sockets]
