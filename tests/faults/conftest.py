"""The fault suite. FAULTS=long runs everything (`make faults`); without it the short form runs, the seeds fixed."""

import os
import random
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.servers import Servers
from tests.faults.stand import LONG, Stand

lines: list[str] = []  # what the checker said, for the summary


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if LONG:
        return
    left_out = [item for item in items if item.get_closest_marker("long")]
    config.hook.pytest_deselected(items=left_out)
    items[:] = [item for item in items if item not in left_out]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if lines:
        terminalreporter.section("faults")
        for line in lines:
            terminalreporter.write_line(line)


def tell(said: list[str]) -> None:
    """Into the summary, and at once into the file FAULTS_REPORT: a long run is long."""
    lines.extend(said)
    if path := os.environ.get("FAULTS_REPORT"):
        with Path(path).open("a") as file:
            file.writelines(f"{line}\n" for line in said)


@pytest.fixture(scope="package")  # they are not for the tests that come after
def servers() -> Iterator[Servers]:
    # Not below pytest's own folder: another run closes that to the account that PostgreSQL runs as.
    folder = Path(tempfile.mkdtemp(prefix="tutorialkafka-faults-"))
    with Servers(folder) as started:
        yield started
    if not os.environ.get("FAULTS_KEEP"):
        shutil.rmtree(folder)


@pytest.fixture
def stand(request: pytest.FixtureRequest, servers: Servers, tmp_path) -> Iterator[Stand]:
    """One scenario. Indirect parameter: the protection that is taken out.

    At its end the verdict is held against what is expected: no fault; or, with the protection out, the fault.
    """
    removed, expected = getattr(request, "param", ("", ""))
    seed = int(os.environ.get("FAULTS_SEED", random.randrange(10**6) if LONG else 7))
    made = Stand(servers, tmp_path, seed=seed, removed=removed)
    try:
        yield made
    finally:
        made.close()
        servers.heal()
    how = f"without {removed}" if removed else "kept"
    said = [f"{request.node.originalname} ({how}, seed {seed})"]
    said += [f"  {each}" for each in (*made.reports, *made.said)]
    said += [f"  {promise}: {what}" for promise, what in made.broken.items()]
    tell(said)
    found = sorted({*made.broken, *(fault for report in made.reports for fault in report.faults())})
    told = "\n".join([*map(str, made.reports), *map(str, made.broken.items())])
    if not made.reports:  # the scenario itself has failed
        return
    if removed:
        assert expected in found, f"without {removed} the checker was to find {expected}; it found {found}\n{told}"
    else:
        assert not found, f"{found}, seed {seed}\n{told}"
        assert all(report.confirmed for report in made.reports), f"nothing was confirmed\n{told}"
