"""Kafka into SQLite: the rows and the position in one transaction."""

import shutil
import sys

from benchmarks import consuming, harness
from benchmarks.harness import Bench

NAME, TITLE = "consume_sqlite", "Kafka into SQLite, rows and position in one transaction"
COUNT = 200_000


def measure(bench: Bench) -> None:
    count = 20_000 if bench.quick else COUNT
    with bench.kafka() as kafka, consuming.side(kafka, count) as side:
        used, kept = side.folder / "db.sqlite3", side.folder / "migrated"
        shutil.copy(used, kept)

        def renewed() -> str:
            """The freshly migrated database in its place again: each run begins with an empty table."""
            for old in side.folder.glob(f"{used.name}*"):
                old.unlink()
            shutil.copy(kept, used)
            return str(used)

        def product() -> harness.Figures:
            renewed()
            return side.product("Database")

        bench.compare(
            f"{count:,} messages of {consuming.VALUE} bytes",
            {
                "raw, the same table": lambda: side.raw("sqlite", renewed()),
                "raw, unique index alone": lambda: side.raw("sqlite-unique", renewed()),
                "DatabaseSink": product,
            },
            reference="raw, the same table",
            goals={"DatabaseSink": consuming.GOAL},
        )
    bench.note(
        "The raw clients: `executemany` in batches of 10,000, WAL, synchronous=FULL as the product has it. *Unique index "
        "alone* has neither an id nor any other index."
    )


if __name__ == "__main__":
    harness.main(sys.modules[__name__])
