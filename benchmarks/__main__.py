"""Run all benchmarks, or those named: ``python -m benchmarks [--only consume,relay] [--quick]``; what `make bench` does.

Each runs in a process of its own, one after the other, so that none inherits another's memory, threads or settings.
"""

import argparse
import subprocess
import sys
import time

from benchmarks.harness import ROOT

ALL = tuple(
    path.stem
    for path in sorted((ROOT / "benchmarks").glob("*.py"))
    if "\nNAME, TITLE = " in path.read_text()  # not harness.py, nor what benchmarks start
)

PATIENCE = 900.0  # seconds until a benchmark counts as hanging


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--only", default="", help=f"comma separated: {', '.join(ALL)}; the beginning of a name is enough"
    )
    parser.add_argument("--quick", action="store_true", help="a smoke run; writes nothing into docs/performance.md")
    options = parser.parse_args()
    wanted = [part for part in options.only.split(",") if part]
    names = [name for name in ALL if not wanted or any(name.startswith(part) for part in wanted)]
    if not names:
        parser.error(f"no benchmark begins with {options.only!r}; there are {', '.join(ALL)}")
    quick = ["--quick"] if options.quick else []
    began = time.monotonic()
    failed = [name for name in names if not _run([sys.executable, "-m", f"benchmarks.{name}", *quick])]
    print(f"{len(names)} benchmarks, {(time.monotonic() - began) / 60:.0f} minutes")
    if failed:
        print(f"failed: {', '.join(failed)}", file=sys.stderr)
    return bool(failed)


def _run(command: list[str]) -> bool:
    try:
        return subprocess.run(command, cwd=ROOT, timeout=PATIENCE, check=False).returncode == 0
    except subprocess.TimeoutExpired:  # what it has started ends with it
        return False


if __name__ == "__main__":
    sys.exit(main())
