"""Kafka into nothing: the runner alone, with a handler that counts."""

import sys
from collections.abc import Callable
from typing import Any

from benchmarks import consuming, harness
from benchmarks.harness import Bench, Figures

NAME, TITLE = "consume_runner", "Kafka into nothing: the runner alone"
COUNT = 1_000_000


def measure(bench: Bench) -> None:
    count = 20_000 if bench.quick else COUNT
    with bench.kafka() as kafka, consuming.project(kafka):
        topic = consuming.fill(kafka, count)
        from tkcons.handlers import handler, registry
        from tkcons.sinks.handler import HandlerSink

        def handled(group: str, function: Callable[[Any], None], batch: int | None) -> Callable[[], Figures]:
            handler(topic, group=group, batch=batch)(function)
            return lambda: consuming.product(HandlerSink, topic, count, handler=registry[group])

        bench.compare(
            f"{count:,} messages of {consuming.VALUE} bytes",
            {
                "raw `consume(1000)`": lambda: consuming.raw(kafka, topic, count, None, size=1_000),
                "handler, batches of 10,000": handled("batch", lambda messages: None, 10_000),
                "handler, batches of 1,000": handled("small", lambda messages: None, 1_000),
                "handler, one call a message": handled("single", lambda message: None, None),
            },
            reference="raw `consume(1000)`",
            goals={"handler, batches of 10,000": 0.80, "handler, one call a message": 0.35},
        )
    bench.note(
        "A handler's position moves in a transaction of its database (SQLite here, an fsync each) for each batch."
    )


if __name__ == "__main__":
    harness.main(sys.modules[__name__])
