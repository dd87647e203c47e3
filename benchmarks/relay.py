"""The outbox's relay against a raw loop on the same table: fetch 5,000, produce() with a header, wait, delete.

Both send rows that are there already; the second table is the delay from a commit to the broker's acknowledgement while
transactions commit at a steady rate.
"""

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

ROWS = 100_000
BATCH = 5_000
TOPIC = "relay-bench"
RATE, SECONDS = 1_000, 20  # transactions a second, and for how long
_FILL = """
INSERT INTO tk_outboxevent (event_id, lane, shard, state, topic, key, value, error, created_at)
SELECT gen_random_uuid(), n %% 1000, n %% 1000 %% 64, 0, %s, convert_to((n %% 1000)::text, 'UTF8'),
       decode(repeat('61', 100), 'hex'), '', now()
FROM generate_series(1, %s) AS n
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
        rows = 5_000 if bench.quick else ROWS
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
        bench.note(
            f"From commit to acknowledgement, {RATE:,} transactions a second for {seconds} s, one `publish()` each:"
        )
        head = ["sent rows are", "transactions/s", "p50 ms", "p99 ms (goal 50)", "longest ms"]
        bench.rows(head, [[name, *row] for name, row in zip(("deleted", "kept"), delays, strict=True)])
        bench.note(
            "The raw loop keeps no order over refusals, no lease and no time of acknowledgement, and runs alone."
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
    began = time.perf_counter()
    query = "SELECT id, event_id, topic, key, value FROM tk_outboxevent WHERE state = 0 ORDER BY id LIMIT %s"
    while found := connection.execute(query, [BATCH]).fetchall():
        for _, event_id, topic, key, value in found:
            headers = [("tk-event-id", str(event_id).encode())]
            producer.produce(topic, value, key, headers=headers, on_delivery=delivered)
        assert producer.flush(30) == 0
        connection.execute("DELETE FROM tk_outboxevent WHERE id = ANY(%s)", [[row[0] for row in found]])
    seconds = time.perf_counter() - began
    assert not failed
    return {"rows/s": rows / seconds}


def _relay(connection: Any, rows: int, keep: int) -> Figures:
    from django.test import override_settings

    from tk.relay import Relay

    _fill(connection, rows)
    with override_settings(TK={"OUTBOX_KEEP_SECONDS": keep}):
        began = time.perf_counter()
        Relay("default").run(once=True)
        seconds = time.perf_counter() - began
    left = connection.execute("SELECT count(*) FROM tk_outboxevent WHERE state <> 1").fetchone()[0]
    assert left == 0, left
    return {"rows/s": rows / seconds}


def _delays(connection: Any, seconds: float, keep: int) -> list[str | float]:
    """The relay on a thread of this process; four threads commit. Kafka's own times are those of the appends."""
    from django.db import connections, transaction
    from django.test import override_settings

    from tk import publish
    from tk.relay import Relay

    committed: dict[Any, float] = {}
    delays: list[float] = []

    class Watched(Relay):
        def _delivered(self, event: Any, error: Any, message: Any) -> None:
            at = committed.get(uuid.UUID(event.event_id))
            delays.append(time.perf_counter() - at if at is not None else 0.0)  # 0: acknowledged before commit returned
            super()._delivered(event, error, message)

    def commit(number: int) -> None:
        began = time.perf_counter()
        for count in range(int(RATE * seconds / 4)):
            wait = began + count * 4 / RATE - time.perf_counter()
            if wait > 0:
                time.sleep(wait)
            with transaction.atomic():
                event_id = publish(TOPIC, b"a" * 100, key=f"{number}-{count % 250}")
            committed[event_id] = time.perf_counter()
        connections.close_all()

    _fill(connection, 0)
    with override_settings(TK={"OUTBOX_KEEP_SECONDS": keep}):
        relay = Watched("default")
        running = threading.Thread(target=relay.run)
        running.start()
        publish(TOPIC, b"a", key="first")  # the producer connects
        while not delays:
            time.sleep(0.05)
        delays.clear()
        began = time.perf_counter()
        threads = [threading.Thread(target=commit, args=[number]) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        took = time.perf_counter() - began
        deadline = time.monotonic() + 30
        while len(delays) < len(committed) and time.monotonic() < deadline:
            time.sleep(0.05)
        relay.stop()
        running.join()
    assert len(delays) == len(committed)
    ms = [delay * 1000 for delay in delays]
    return [len(committed) / took, percentile(ms, 0.5), percentile(ms, 0.99), max(ms)]


if __name__ == "__main__":
    harness.main(sys.modules[__name__])
