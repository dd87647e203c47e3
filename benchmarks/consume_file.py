"""Kafka into files, exactly once: the tutorial's lines and JSON Lines."""

import sys

from benchmarks import consuming, harness
from benchmarks.harness import Bench

NAME, TITLE = "consume_file", "Kafka into files, exactly once, with fsync"
COUNT = 300_000


def measure(bench: Bench) -> None:
    count = 20_000 if bench.quick else COUNT
    with bench.kafka() as kafka, consuming.side(kafka, count) as side:

        def path(name: str) -> str:
            """A file that is not there yet."""
            for old in side.folder.glob(f"{name}*"):
                old.unlink()
            return str(side.folder / name)

        title = f"{count:,} messages of {consuming.VALUE} bytes"
        bench.compare(
            f"{title}, the tutorial's lines",
            {
                "raw, the same lines": lambda: side.raw("lines", path("raw.txt")),
                "TextFileSink": lambda: side.product("TextFile", path=path("lines.txt"), clear_on_start=False),
            },
            reference="raw, the same lines",
            goals={"TextFileSink": consuming.GOAL},
        )
        bench.compare(
            f"{title}, JSON Lines",
            {
                "raw, values alone": lambda: side.raw("values", path("raw.txt")),
                "JsonLinesSink": lambda: side.product("JsonLines", path=path("lines.jsonl")),
            },
            reference="raw, values alone",
            goals={"JsonLinesSink": 0.60},
        )
    bench.note(
        "The raw client formats the same lines in batches of 10,000, writes, syncs, records the length and syncs; "
        "*values alone* writes the 100 bytes and a line feed, the sink about 200 bytes of JSON."
    )


if __name__ == "__main__":
    harness.main(sys.modules[__name__])
