"""A fresh clone of this checkout's HEAD, with a home folder of its own, used as a newcomer uses it."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.acceptance.newcomer import ROOT, Copy
from tklocal import artifacts


@pytest.fixture(scope="session")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clone with its own environment; only downloads are shared with this machine, by explicit variables."""
    folder = tmp_path_factory.mktemp("clone") / "tutorialkafka"
    subprocess.run(["git", "clone", "--quiet", str(ROOT), str(folder)], check=True)
    return folder


@pytest.fixture(scope="session")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """An empty home; pip's cache and the jars are handed over, so that the network is used once."""
    given = {
        name: value
        for name, value in os.environ.items()
        if name in {"PATH", "LANG", "TMPDIR"} or name.startswith(("PIP_", "SSL_", "REQUESTS_"))
    }
    pip_cache = subprocess.run(
        [sys.executable, "-m", "pip", "cache", "dir"], capture_output=True, text=True, check=True
    ).stdout.strip()
    home = tmp_path_factory.mktemp("home")
    return {**given, "HOME": str(home), "PIP_CACHE_DIR": pip_cache, "TUTORIALKAFKA_CACHE": str(artifacts.cache())}


@pytest.fixture
def copy(clone: Path, environment: dict[str, str], tmp_path: Path) -> Iterator[Copy]:
    """What one person runs: a port, a broker port and a folder of its own."""
    made = Copy(clone, environment, tmp_path / "data")
    try:
        yield made
    finally:
        made.kill()
