"""Kafka into nothing: the runner alone, with a handler that does nothing."""

import sys

from benchmarks import consuming, harness
from benchmarks.harness import Bench

NAME, TITLE = "consume_runner", "Kafka into nothing: the runner alone"
COUNT = 1_000_000
RAW = "raw `consume(1000)`"


def measure(bench: Bench) -> None:
    count = 20_000 if bench.quick else COUNT
    with bench.kafka() as kafka, consuming.side(kafka, count) as side:
        bench.compare(
            f"{count:,} messages of {consuming.VALUE} bytes",
            {
                RAW: lambda: side.raw("nothing"),
                f"{RAW}, collector tuned": lambda: side.raw("nothing-tuned"),
                "handler, batches of 10,000": lambda: side.product("Counted", batch=10_000),
                "handler, batches of 1,000": lambda: side.product("Counted", batch=1_000),
                "handler, one call a message": lambda: side.product("Counted", batch=None),
            },
            reference=RAW,
            goals={"handler, batches of 10,000": 0.80, "handler, one call a message": 0.35},
        )
    bench.note(
        "A handler's position moves in a transaction of its database (SQLite here, each commit an fsync) for each batch, "
        "or each 5,000 single calls. *Collector tuned*: Python's garbage collector as `manage.py consume` sets it."
    )


if __name__ == "__main__":
    harness.main(sys.modules[__name__])
