"""What `make run` costs: how long it takes until everything runs, and the memory of each process."""

import contextlib
import statistics
import sys
import time
from pathlib import Path

import psutil

from benchmarks import harness, stack
from benchmarks.harness import Bench, scratch

NAME, TITLE = "processes", "Start-up and memory"
STARTS = 3
MESSAGES = 2_000
ROLES = {
    "runall": "supervisor",
    "runkafka": "Kafka's keeper",
    "java": "Kafka",
    "consume": "consumer",
    "relay": "relay",
    "granian": "web",
}


def measure(bench: Bench) -> None:
    messages = 20 if bench.quick else MESSAGES
    with scratch() as folder:
        first = _seconds(folder)
        again = [_seconds(folder) for _ in range(1 if bench.quick else STARTS)]
        with stack.make_run(folder) as site:
            connection = site.connect()
            for number in range(messages):
                connection.request("GET", f"/tkprod?message={number}")
                assert connection.getresponse().read() == b"Produced message."
            time.sleep(0 if bench.quick else 5)
            memory = _memory(site.process.pid)
    spread = " / ".join(f"{value:.1f}" for value in (min(again), statistics.median(again), max(again)))
    bench.rows(
        ["`make run`, until everything answers", "seconds"],
        [
            ["the first time in a folder, with .venv and Kafka's jars there", first],
            ["again: minimum / median / maximum", spread],
        ],
    )
    bench.rows(
        ["process", "its own memory, MB", "with what it shares, MB"],
        [[name, own, whole] for name, (own, whole) in sorted(memory.items())],
    )
    bench.note(f"After {messages:,} messages by HTTP. *Its own* is USS, *with what it shares* RSS.")


def _seconds(folder: Path) -> float:
    with stack.make_run(folder) as site:
        return site.seconds


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


if __name__ == "__main__":
    harness.main(sys.modules[__name__])
