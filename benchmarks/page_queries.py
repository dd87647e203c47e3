"""Pages of 10 million stored messages: the first, deep ones, filtered ones, on SQLite and on PostgreSQL."""

import os
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from benchmarks import harness
from benchmarks.harness import Bench, Figures, percentile

NAME, TITLE = "page_queries", "Pages of the stored messages"

GOAL_ROWS = 10_000_000
ROWS = int(os.environ.get("ROWS", GOAL_ROWS))  # fewer where the machine has no time for all
TIMES = 20  # queries of one run
START = datetime(2026, 1, 1, tzinfo=UTC)  # a row a millisecond from then on, in 12 partitions of 3 topics
_POSITIONS = """
INSERT INTO tkcons_position (id, "group", topic, topic_id, partition, generation, start_offset, next_offset, updated_at,
  stores, tries) VALUES (%s, 'g', %s, %s, %s, 0, 0, %s, %s, %s, 0)
"""
_VALUE = (
    "'{\"number\": ' || n || ', \"text\": \"' || 'some hundred bytes of text, as an order has them ........' || '\"}'"
)
_SQLITE = f"""
WITH RECURSIVE rows(n) AS (SELECT %s UNION ALL SELECT n + 1 FROM rows WHERE n + 1 < %s)
INSERT INTO tkcons_message (position_id, "offset", timestamp, timestamp_type, key, value, headers, stored_at)
SELECT n %% 12 + 1, n / 12, 1767225600000 + n, 0, CAST('k' || (n %% 1000) AS BLOB), CAST({_VALUE} AS BLOB), NULL,
       strftime('%%Y-%%m-%%d %%H:%%M:%%f', 1767225600 + n / 1000.0, 'unixepoch') FROM rows
"""  # noqa: S608
_POSTGRES = f"""
INSERT INTO tkcons_message (position_id, "offset", timestamp, timestamp_type, key, value, headers, stored_at)
SELECT n %% 12 + 1, n / 12, 1767225600000 + n, 0, convert_to('k' || n %% 1000, 'UTF8'), convert_to({_VALUE}, 'UTF8'), NULL,
       timestamptz '2026-01-01 00:00+00' + n * interval '1 millisecond' FROM generate_series(%s::bigint, %s::bigint - 1) AS n
"""  # noqa: S608


def measure(bench: Bench) -> None:
    rows = 100_000 if bench.quick else ROWS
    with bench.postgres() as postgres, tempfile.TemporaryDirectory(prefix="tutorialkafka-bench-") as data:
        os.environ |= {"DATA": data, "DJANGO_SETTINGS_MODULE": "tutorialkafka.settings_test"}
        import dj_database_url
        import django
        from django.core.management import call_command
        from django.db import connections

        django.setup()
        options = dj_database_url.parse(postgres.url)
        connections.databases["postgres"] = {**connections.databases["default"], **options, "OPTIONS": {}}
        for alias in ("default", "postgres"):
            call_command("migrate", database=alias, verbosity=0)
            _fill(alias, rows)
            title = f"{'SQLite' if alias == 'default' else 'PostgreSQL'}, {rows:,} messages, 100 a page"
            bench.compare(title, _contenders(alias, rows), reference="first page", goals=dict.fromkeys(_INDEXED, 0.5))
            connections[alias].close()
        bench.note(
            "A page is the query and its rows, without the template. Goal: any page that an index serves costs at most "
            "twice the first one. What no index serves (key, header, text) is searched backwards until a hundred rows are "
            "found or `SEARCH_SECONDS` is over: the key is that of a row in a thousand, the text is nowhere."
        )
        if rows != GOAL_ROWS:
            bench.note(f"Measured with `ROWS={rows}`, not with the {GOAL_ROWS:,} rows of the goal.")


_INDEXED = (
    "page at the middle",
    "last page",
    "a topic",
    "a topic, deep",
    "a partition, by offset",
    "an hour",
    "a topic's hour",
)


def _contenders(alias: str, rows: int) -> dict[str, Callable[[], Figures]]:
    from django.db import router

    from tk.access import CODE
    from tkcons.viewer import cursor, search
    from tkcons.viewer.query import Query

    def run(query: Query, before: str = "", times: int = TIMES, found: int = 100) -> Callable[[], Figures]:
        def work() -> Figures:
            router.routers = [_Router(alias)]
            assert len(search.find(CODE, query, before).rows) == found
            spent = [harness.timed(lambda: search.find(CODE, query, before)) for _ in range(times)]
            return {
                "pages/s": times / sum(spent),
                "p50 ms": percentile(spent, 0.5) * 1e3,
                "longest ms": max(spent) * 1e3,
            }

        return work

    middle = START + timedelta(milliseconds=rows // 2)
    end = middle + timedelta(milliseconds=min(3_600_000, rows // 4))
    deep = cursor.dump(dict.fromkeys(range(1, 13), rows // 24))
    return {
        "first page": run(Query()),
        "page at the middle": run(Query(), str(rows // 2)),
        "last page": run(Query(), "101"),
        "a topic": run(Query(topic="topic-1")),
        "a topic, deep": run(Query(topic="topic-1"), deep),
        "a partition, by offset": run(Query(topic="topic-1", partition=2, offset=rows // 24), found=1),
        "an hour": run(Query(since=middle, until=end)),
        "a topic's hour": run(Query(topic="topic-1", since=middle, until=end)),
        "a key": run(Query(key="k7"), times=3),
        "a text that is nowhere": run(Query(text="nowhere"), times=3, found=0),
    }


class _Router:
    """Django's router to the one database that is measured."""

    def __init__(self, alias: str) -> None:
        self.alias = alias

    def db_for_read(self, model: object, **hints: object) -> str:
        return self.alias

    db_for_write = db_for_read


def _fill(alias: str, rows: int) -> None:
    from django.db import connections, transaction

    connection = connections[alias]
    began = time.monotonic()
    with connection.cursor() as asking:
        for number in range(12):
            topic = f"topic-{number % 3}"
            count = (rows - number + 11) // 12
            asking.execute(_POSITIONS, [number + 1, topic, topic, number // 3, count, START, True])
        for start in range(0, rows, 1_000_000):
            with transaction.atomic(using=alias):
                fill = _SQLITE if connection.vendor == "sqlite" else _POSTGRES
                asking.execute(fill, [start, min(start + 1_000_000, rows)])
        asking.execute("ANALYZE")
    print(f"  filled {alias}: {time.monotonic() - began:.0f} s", flush=True)


if __name__ == "__main__":
    harness.main(sys.modules[__name__])
