"""`manage.py produce` from a file, beside the raw producers of http_batch."""

import os
import re
import subprocess
import sys
import time
from pathlib import Path

from benchmarks import harness
from benchmarks.harness import ROOT, Bench, Figures, scratch
from benchmarks.http_batch import KEYED, LINES, TEXT, TOPIC, raw_batches, raw_singly
from tklocal.kafka import Cluster

NAME, TITLE = "produce_file", "`manage.py produce` from a file"
COUNT = 1_000_000


def measure(bench: Bench) -> None:
    count = 2 * LINES if bench.quick else COUNT
    with bench.kafka() as kafka, scratch() as folder:
        lines, objects, one = folder / "lines", folder / "objects", folder / "one"
        lines.write_bytes(TEXT * (count // LINES))
        objects.write_bytes(KEYED * (count // LINES))
        one.write_bytes(b"one\n")
        starting = min(_seconds(kafka, one, "lines", 1) for _ in range(3))

        def command(file: Path, form: str) -> Figures:
            return {"records/s": count / (_seconds(kafka, file, form, count) - starting)}

        bench.compare(
            f"{count:,} lines of 100 bytes",
            {
                "raw `produce_batch`": lambda: raw_batches(kafka.bootstrap, count),
                "`manage.py produce`": lambda: command(lines, "lines"),
            },
            reference="raw `produce_batch`",
            rounds=3,
        )
        bench.compare(
            f"{count:,} objects with key and two headers, NDJSON",
            {
                "raw `produce()`": lambda: raw_singly(kafka.bootstrap, count),
                "`manage.py produce --format ndjson`": lambda: command(objects, "ndjson"),
            },
            reference="raw `produce()`",
            rounds=3,
        )
    bench.note(f"The command's start, {starting:.1f} s with one line, is taken off; the raw producers read no file.")


def _seconds(kafka: Cluster, file: Path, form: str, count: int) -> float:
    environment = {
        **os.environ,
        "DJANGO_SETTINGS_MODULE": "benchmarks.settings",
        "DATA": str(file.parent),
        "KAFKA_BROKER_URL": kafka.bootstrap,
    }
    command = [sys.executable, "manage.py", "produce", TOPIC, str(file), "--format", form]
    began = time.perf_counter()
    done = subprocess.run(command, cwd=ROOT, env=environment, check=True, capture_output=True, text=True)
    seconds = time.perf_counter() - began
    assert re.search(rf"\b{count} confirmed", done.stdout), done.stdout
    return seconds


if __name__ == "__main__":
    harness.main(sys.modules[__name__])
