"""The outbox's relay against a raw loop on the same table: fetch 5,000, produce() with a header, wait, delete.

Both send rows that are there already; the second table is the delay from a commit to the broker's acknowledgement while
other processes commit transactions at a steady rate.
"""

import multiprocessing
import os
import sys
import threading
import time
import uuid
from typing import Any

import psycopg
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewTopic

from benchmarks import harness
from benchmarks.harness import Bench, Figures, percentile

NAME, TITLE = "relay", "The outbox's relay"

ROWS = 200_000
BATCH = 5_000
TOPIC = "relay-bench"
RATE, SECONDS = 1_000, 20  # transactions a second, and for how long
PROCESSES, THREADS = 2, 4  # that make them; threads of each process
_FILL = """
INSERT INTO tk_outboxevent (event_id, lane, shard, state, topic, key, value, error, created_at)
SELECT gen_random_uuid(), n %% 1000, n %% 1000 %% 64, 0, %s, convert_to((n %% 1000)::text, 'UTF8'),
       decode(repeat('61', 100), 'hex'), '', now()
FROM generate_series(1, %s) AS n
"""
_PUBLISH = """
INSERT INTO tk_outboxevent (event_id, lane, shard, state, topic, key, value, error, created_at)
VALUES (%s, %s, %s, 0, %s, %s, %s, '', now())
"""


def measure(bench: Bench) -> None:
    with bench.kafka() as kafka, bench.postgres() as postgres:
        os.environ |= {
            "DJANGO_SETTINGS_MODULE": "tutorialkafka.settings_test",
            "DATABASE_URL": postgres.url,
            "KAFKA_BROKER_URL": kafka.bootstrap,
        }
        import django
        from django.core.management import call_command

        from tk import collector

        django.setup()
        collector.spare()  # as `manage.py relay` does; the raw loop has it, too
        call_command("migrate", "tk", verbosity=0)
        admin = AdminClient({"bootstrap.servers": kafka.bootstrap})
        admin.create_topics([NewTopic(TOPIC, 4, 1)])[TOPIC].result(10)
        rows = 4 * BATCH if bench.quick else ROWS
        with psycopg.connect(postgres.url, autocommit=True) as connection:
            bench.compare(
                f"PostgreSQL, {rows:,} rows of 100 bytes in 1,000 keys",
                {
                    "raw loop": lambda: _raw(connection, kafka.bootstrap, rows),
                    "relay, rows deleted": lambda: _relay(connection, rows, keep=0),
                    "relay, rows kept": lambda: _relay(connection, rows, keep=86_400),
                },
                reference="raw loop",
                goals={"relay, rows deleted": 0.75},
            )
            seconds = 2 if bench.quick else SECONDS
            delays = [_delays(connection, seconds, keep) for keep in (0, 86_400)]
        bench.note(f"From commit to acknowledgement, {RATE:,} transactions a second for {seconds} s, one event each:")
        head = ["sent rows are", "transactions/s", "p50 ms", "p99 ms (goal 50)", "longest ms"]
        bench.rows(head, [[name, *row] for name, row in zip(("deleted", "kept"), delays, strict=True)])
        bench.note(
            "The raw loop keeps no order over refusals, no lease and no time of acknowledgement, and runs alone. Rates are "
            "from the end of the first batch to the end of the last: connecting, a producer's first id and taking the "
            f"shards are in neither. {PROCESSES} other processes make the transactions, with the statements of `publish()`; "
            "a delay begins when the commit has returned to them, and what they take of the cores is in the figures."
        )


def _fill(connection: Any, rows: int) -> None:
    connection.execute("TRUNCATE tk_outboxevent")
    connection.execute(_FILL, [TOPIC, rows])
    connection.execute("VACUUM ANALYZE tk_outboxevent")
    connection.execute("CHECKPOINT")


def _raw(connection: Any, bootstrap: str, rows: int) -> Figures:
    _fill(connection, rows)
    failed = []

    def delivered(error: Any, message: Any) -> None:
        if error is not None:
            failed.append(error)

    producer = Producer({"bootstrap.servers": bootstrap, "enable.idempotence": True, "linger.ms": 1})
    query = "SELECT id, event_id, topic, key, value FROM tk_outboxevent WHERE state = 0 ORDER BY id LIMIT %s"
    ends = []
    while found := connection.execute(query, [BATCH]).fetchall():
        for _, event_id, topic, key, value in found:
            headers: list[tuple[str, str | bytes | None]] = [("tk-event-id", str(event_id).encode())]
            producer.produce(topic, value, key, headers=headers, on_delivery=delivered)
        assert producer.flush(30) == 0
        connection.execute("DELETE FROM tk_outboxevent WHERE id = ANY(%s)", [[row[0] for row in found]])
        ends.append((time.perf_counter(), len(found)))
    assert not failed
    return _rate(ends, rows)


def _relay(connection: Any, rows: int, keep: int) -> Figures:
    from django.test import override_settings

    from tk.relay import Relay

    _fill(connection, rows)
    relay = Relay("default")
    mark, ends = relay._store.mark, []

    def marked(sent: Any, failed: Any) -> None:
        mark(sent, failed)
        ends.append((time.perf_counter(), len(sent)))

    relay._store.mark = marked  # type: ignore[method-assign]
    with override_settings(TK={"OUTBOX_KEEP_SECONDS": keep}):
        relay.run(once=True)
    left = connection.execute("SELECT count(*) FROM tk_outboxevent WHERE state <> 1").fetchone()[0]
    assert left == 0, left
    return _rate(ends, rows)


def _rate(ends: list[tuple[float, int]], rows: int) -> Figures:
    """ends: of the batches, in seconds, with their rows."""
    (began, first), (ended, _) = ends[0], ends[-1]
    assert sum(count for _, count in ends) == rows
    return {"rows/s": (rows - first) / (ended - began)}


def _delays(connection: Any, seconds: float, keep: int) -> list[str | float]:
    """The relay on a thread of this process, which does nothing else."""
    from django.test import override_settings

    from tk import publish
    from tk.relay import Relay

    _fill(connection, 0)
    arrived: dict[str, float] = {}
    with override_settings(TK={"OUTBOX_KEEP_SECONDS": keep}):
        relay = Relay("default")
        delivered = relay._sender._delivered

        def watched(event: Any, error: Any, message: Any) -> None:
            arrived[event.event_id] = time.perf_counter()
            delivered(event, error, message)

        relay._sender._delivered = watched  # type: ignore[method-assign]
        running = threading.Thread(target=relay.run)
        running.start()
        publish(TOPIC, b"a", key="first")
        deadline = time.monotonic() + 30
        while not arrived and time.monotonic() < deadline:
            time.sleep(0.05)  # the producer connects
        context = multiprocessing.get_context("spawn")
        ready = context.Barrier(PROCESSES * (THREADS + 1))  # a process that still starts would take the others' core
        with context.Pool(PROCESSES, _get_ready, [ready]) as pool:
            made = pool.starmap(_publishing, [(number, seconds) for number in range(PROCESSES)])
        committed = {event_id: at for events, _ in made for event_id, at in events.items()}
        deadline = time.monotonic() + 30
        while len(arrived) <= len(committed) and time.monotonic() < deadline:
            time.sleep(0.05)
        relay.stop()
        running.join()
    # An acknowledgement may be here before its commit has returned.
    ms = [max(0.0, arrived[event_id] - at) * 1000 for event_id, at in committed.items()]
    rate = sum(len(events) / took for events, took in made)
    return [rate, percentile(ms, 0.5), percentile(ms, 0.99), max(ms)]


_ready: Any = None  # of a process that makes transactions: all begin together


def _get_ready(barrier: Any) -> None:
    global _ready
    _ready = barrier


def _publishing(process: int, seconds: float) -> tuple[dict[str, float], float]:
    """In a process of its own: when the commit of each event returned, by its id, and the seconds that all took.

    The statements are those of `publish()`, in one round trip: Django's part of it would leave the relay no core. The
    clock time.perf_counter() is the same in all processes of a machine.
    """
    committed: dict[str, float] = {}
    together = PROCESSES * THREADS

    def commit(thread: int) -> None:
        with psycopg.connect(os.environ["DATABASE_URL"]) as connection:
            _ready.wait()
            began = time.perf_counter()
            for count in range(int(RATE * seconds / together)):
                wait = began + count * together / RATE - time.perf_counter()
                if wait > 0:
                    time.sleep(wait)
                event_id, lane = uuid.uuid4(), (process * THREADS + thread) * 125 + count % 125
                with connection.pipeline():
                    connection.execute("SELECT pg_notify('tk_outbox', ''), pg_advisory_xact_lock(1, %s)", [lane])
                    connection.execute(_PUBLISH, [event_id, lane, lane % 64, TOPIC, str(lane).encode(), b"a" * 100])
                    connection.commit()
                committed[str(event_id)] = time.perf_counter()

    threads = [threading.Thread(target=commit, args=[number]) for number in range(THREADS)]
    for thread in threads:
        thread.start()
    _ready.wait()
    began = time.perf_counter()
    for thread in threads:
        thread.join()
    return committed, time.perf_counter() - began


if __name__ == "__main__":
    harness.main(sys.modules[__name__])
