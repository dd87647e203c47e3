"""A wall clock of their own for processes under test, which may be put forward and back: libfaketime's.

It moves CLOCK_REALTIME alone, as a real step does; what waits until a time of the wall clock waits longer or shorter by the
step, for which there is stepped.c.
"""

import shutil
import subprocess
from pathlib import Path

import pytest

LIBRARY = next(iter(sorted(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"))), None)
needs_clock = pytest.mark.skipif(
    LIBRARY is None or shutil.which("cc") is None,
    reason="it needs libfaketime and a C compiler (Debian: apt-get install faketime gcc libc6-dev)",
)


class Clock:
    """environment: of the processes that go by it."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / "clock"
        self.put(0)
        waits = folder / "stepped.so"
        source = Path(__file__).with_name("stepped.c")
        subprocess.run(["cc", "-shared", "-fPIC", "-O2", "-o", waits, source, "-lpthread"], check=True)
        self.environment = {
            "LD_PRELOAD": f"{waits}:{LIBRARY}",
            "FAKETIME_TIMESTAMP_FILE": str(self._file),
            "FAKETIME_CACHE_DURATION": "1",  # seconds until a process sees what the file says
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "NO_FAKE_STAT": "1",
        }

    def put(self, hours: int) -> None:
        """So many hours from the true time."""
        new = self._file.with_suffix(".new")
        new.write_text(f"{hours:+}h")
        new.rename(self._file)
