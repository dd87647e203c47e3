"""What `make run` costs: how long it takes until everything runs, and the memory of each process."""

import contextlib
import http.client
import os
import signal
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil

from benchmarks import harness
from benchmarks.harness import ROOT, Bench, scratch

NAME, TITLE = "processes", "Start-up and memory"
STARTS = 5
MESSAGES = 2_000
PATIENCE = 120.0
ROLES = {"runall": "supervisor", "runkafka": "Kafka's keeper", "java": "Kafka", "consume": "consumer", "relay": "relay"}
ROLES |= {"granian": "web"}


def measure(bench: Bench) -> None:
    with scratch() as folder:
        first = _seconds(folder)
        again = [_seconds(folder) for _ in range(1 if bench.quick else STARTS)]
        with _running(folder) as (process, port, _):
            site = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
            for number in range(20 if bench.quick else MESSAGES):
                site.request("GET", f"/tkprod?message={number}")
                site.getresponse().read()
            time.sleep(0 if bench.quick else 5)
            memory = _memory(process.pid)
    bench.rows(
        ["`make run`, until everything answers", "seconds"],
        [
            ["first time in a folder, Kafka's jars and .venv there", first],
            [
                "again: minimum / median / maximum",
                " / ".join(f"{value:.1f}" for value in (min(again), statistics.median(again), max(again))),
            ],
        ],
    )
    bench.rows(
        ["process", "its own memory, MB", "with what it shares, MB"],
        [[name, own, whole] for name, (own, whole) in sorted(memory.items())],
    )
    bench.note(
        f"After {0 if bench.quick else MESSAGES:,} messages by HTTP. *Its own*: USS; *with what it shares*: RSS."
    )


def _seconds(folder: Path) -> float:
    with _running(folder) as (_, _, seconds):
        return seconds


@contextlib.contextmanager
def _running(folder: Path) -> Iterator[tuple["subprocess.Popen[str]", int, float]]:
    """`make run` on free ports, all data in the folder; gives the process, the web port, the seconds until it was ready."""
    ports = _free_ports(2)
    environment = {key: value for key, value in os.environ.items() if key not in {"KAFKA_BROKER_URL", "DATABASE_URL"}}
    environment |= {
        "DATA": str(folder),
        "TUTORIALKAFKA_CHECKOUT": "1",
        "PORT": str(ports[0]),
        "KAFKA_PORT": str(ports[1]),
    }
    began = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "manage.py", "runall"],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    )
    try:
        assert process.stdout is not None
        for line in process.stdout:
            if "Everything runs" in line:
                break
        else:
            raise AssertionError("make run did not start")
        yield process, ports[0], time.perf_counter() - began
    finally:
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=PATIENCE)


def _memory(pid: int) -> dict[str, tuple[float, float]]:
    """MB by role; processes of one role are added up."""
    found: dict[str, tuple[float, float]] = {}
    top = psutil.Process(pid)
    for process in [top, *top.children(recursive=True)]:
        with contextlib.suppress(psutil.NoSuchProcess):
            words = [Path(word).name for word in process.cmdline()[:6]]
            role = next((ROLES[word] for word in words if word in ROLES), None)
            if role is not None:
                used = process.memory_full_info()
                own, whole = found.get(role, (0.0, 0.0))
                found[role] = (own + used.uss / 2**20, whole + used.rss / 2**20)
    return found


def _free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [each.getsockname()[1] for each in sockets]


if __name__ == "__main__":
    harness.main(sys.modules[__name__])
