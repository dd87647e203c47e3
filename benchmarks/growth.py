"""How consuming grows: with processes, with partitions, with messages; `manage.py consume` into PostgreSQL and a file."""

import contextlib
import signal
import sys
import time
import uuid
from collections.abc import Callable
from functools import partial
from typing import Any

import psycopg

from benchmarks import consuming, harness
from benchmarks.consuming import Side
from benchmarks.harness import Bench, Figures
from tklocal.kafka import Cluster

NAME, TITLE = "growth", "Growth"
COUNT = 300_000
SHARED_COUNT = 2_000_000  # some seconds' work: members begin up to a heartbeat apart
SHARED = 12  # partitions
PROCESSES = (1, 2, 4)
PARTITIONS = (1, 4, 12, 24)
MESSAGES = (100_000, 1_000_000, 10_000_000)


def measure(bench: Bench) -> None:
    count = 20_000 if bench.quick else COUNT
    with bench.kafka() as kafka:
        _processes(bench, kafka, 100_000 if bench.quick else SHARED_COUNT)
        _partitions(bench, kafka, count)
        _messages(bench, kafka)
    bench.note("The broker has the same cores as the consumers: with more processes than cores nothing is gained.")


def _processes(bench: Bench, kafka: Cluster, count: int) -> None:
    with bench.postgres() as postgres, consuming.side(kafka, count, partitions=SHARED, database=postgres.url) as side:
        side.manage("shell", "-c", "from tkcons import retention; retention.make_partitions('default')")
        contenders = {_of(number, "process", "processes"): partial(_shared, side, number) for number in PROCESSES}
        title = f"PostgreSQL, {SHARED} partitions, {count:,} messages"
        bench.compare(title, contenders, reference="1 process", rounds=3, warm_up=False)


def _partitions(bench: Bench, kafka: Cluster, count: int) -> None:
    with contextlib.ExitStack() as stack:
        sides = {number: stack.enter_context(consuming.side(kafka, count, partitions=number)) for number in PARTITIONS}
        contenders = {_of(number, "partition", "partitions"): partial(_file, side) for number, side in sides.items()}
        title = f"Text file, one process, {count:,} messages"
        bench.compare(title, contenders, reference="1 partition", rounds=3, warm_up=False)


def _messages(bench: Bench, kafka: Cluster) -> None:
    rows = []
    for messages in (20_000,) if bench.quick else MESSAGES:
        with consuming.side(kafka, messages) as side:
            figures = _file(side)
        rows.append((f"{messages:,}", figures["records/s"], figures["peak MB"]))
    bench.rows(["messages into the text file, one run each", "records/s", "peak MB of the consumer"], rows)


def _of(number: int, one: str, several: str) -> str:
    return f"{number} {one if number == 1 else several}"


def _file(side: Side) -> Figures:
    path = side.folder / f"{uuid.uuid4().hex}.txt"
    figures = side.product("TextFile", path=path, clear_on_start=False)
    path.unlink()
    return figures


def _shared(side: Side, processes: int) -> Figures:
    """`manage.py consume --processes N`, under a new group: the rate over the middle six tenths of the messages.

    The group pauses until its members have shared the partitions; each then begins within a heartbeat.
    """
    group = f"bench-{uuid.uuid4().hex[:8]}"
    with psycopg.connect(side.database, autocommit=True) as connection:
        connection.execute("TRUNCATE tkcons_message")
        connection.execute("CHECKPOINT")
        connection.execute(
            "INSERT INTO tkcons_group (name, desired, changed_at, changed_by, lease_owner) "
            "VALUES (%s, 'paused', now(), 'bench', '')",
            [group],
        )
        consumer = side.start(group, processes)
        try:
            _until(lambda: _members(connection, group) == processes, "the partitions were not shared")
            connection.execute("UPDATE tkcons_group SET desired = 'running' WHERE name = %s", [group])
            seen: list[tuple[float, int]] = []
            _until(lambda: _stored(connection, group, seen) >= side.count, "not all was stored")
        finally:
            consumer.send_signal(signal.SIGTERM)
            consumer.wait(40)
    began, first = next(each for each in seen if each[1] >= side.count * 0.2)
    ended, last = next(each for each in seen if each[1] >= side.count * 0.8)
    return {"records/s": (last - first) / max(ended - began, 1e-9)}


def _members(connection: "psycopg.Connection[tuple[Any, ...]]", group: str) -> int:
    """How many have partitions, once all partitions are theirs."""
    rows = connection.execute(
        "SELECT jsonb_array_length(partitions) FROM tkcons_member WHERE group_id = %s", [group]
    ).fetchall()
    return len(rows) if sum(count for (count,) in rows) == SHARED and all(count for (count,) in rows) else 0


def _stored(connection: "psycopg.Connection[tuple[Any, ...]]", group: str, seen: list[tuple[float, int]]) -> int:
    row = connection.execute(
        'SELECT coalesce(sum(next_offset), 0) FROM tkcons_position WHERE "group" = %s', [group]
    ).fetchone()
    seen.append((time.perf_counter(), int(row[0]) if row else 0))
    return seen[-1][1]


def _until(true: Callable[[], bool], otherwise: str) -> None:
    deadline = time.monotonic() + consuming.PATIENCE
    while not true():
        assert time.monotonic() < deadline, otherwise
        time.sleep(0.02)


if __name__ == "__main__":
    harness.main(sys.modules[__name__])
