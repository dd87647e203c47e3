"""Kafka into PostgreSQL: the rows by COPY and the position in one transaction."""

import sys

import psycopg

from benchmarks import consuming, harness
from benchmarks.harness import Bench, Figures

NAME, TITLE = "consume_postgres", "Kafka into PostgreSQL, rows and position in one transaction"
COUNT = 200_000


def measure(bench: Bench) -> None:
    count = 20_000 if bench.quick else COUNT
    with (
        bench.kafka() as kafka,
        bench.postgres() as postgres,
        consuming.side(kafka, count, database=postgres.url) as side,
    ):
        side.manage("shell", "-c", "from tkcons import retention; retention.make_partitions('default')")

        def emptied(run: str) -> Figures:
            with psycopg.connect(postgres.url, autocommit=True) as connection:
                connection.execute("TRUNCATE tkcons_message")
                connection.execute("CHECKPOINT")
            return side.product("Database") if run == "product" else side.raw("postgres", postgres.url)

        bench.compare(
            f"{count:,} messages of {consuming.VALUE} bytes",
            {"raw COPY, the same table": lambda: emptied("raw"), "DatabaseSink": lambda: emptied("product")},
            reference="raw COPY, the same table",
            goals={"DatabaseSink": consuming.GOAL},
        )
    bench.note("Both copy batches of 10,000 into the same empty table with its indexes, partitioned by the day.")


if __name__ == "__main__":
    harness.main(sys.modules[__name__])
