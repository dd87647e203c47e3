"""The raw clients that the product is compared with: what somebody would write by hand for one partition set, well tuned.

``python -m benchmarks.raw KIND TOPIC COUNT [PATH or URL]`` consumes so many messages and prints figures. No Django here.
Each kind but `nothing` stores a batch and its position durably before it takes the next one.
"""

import html
import json
import os
import sqlite3
import struct
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

from confluent_kafka import Consumer, TopicPartition

from benchmarks.meter import Meter

BATCH = 10_000  # records of a batch, as TKCONS["BATCH"]
PATIENCE = 120.0  # seconds until a run counts as hanging
COLUMNS = 'position_id, "offset", timestamp, timestamp_type, key, value, headers, stored_at'
Store = Callable[[list[Any]], None]

# As tkcons.session: a consumer with librdkafka's own pause of a second would be an easy opponent.
TUNED = {
    "enable.auto.commit": False,
    "isolation.level": "read_committed",
    "fetch.queue.backoff.ms": 10,
    "queued.min.messages": 100_000,
    "queued.max.messages.kbytes": 65_536,
}


def consume(topic: str, count: int, store: Store, size: int) -> None:
    consumer = Consumer({**TUNED, "bootstrap.servers": os.environ["KAFKA_BROKER_URL"], "group.id": "raw"})
    partitions = consumer.list_topics(topic).topics[topic].partitions
    consumer.assign([TopicPartition(topic, partition, 0) for partition in partitions])
    meter, deadline = Meter(count), time.monotonic() + PATIENCE
    while True:
        messages = consumer.consume(size, 0.02)
        if messages:
            store(messages)
            if meter.add(len(messages)):
                break
        assert time.monotonic() < deadline, f"{meter.count} of {count} came"
    consumer.close()


def nothing(messages: list[Any]) -> None:
    pass


def line(message: Any) -> str:
    kind, timestamp = message.timestamp()
    key, value, headers = message.key(), message.value(), message.headers() or []
    text = (
        f"ConsumerRecord(topic={message.topic()!r}, partition={message.partition()}, offset={message.offset()}, "
        f"timestamp={timestamp}, timestamp_type={kind - 1}, key={key!r}, value={value!r}, headers={headers!r}, "
        f"checksum=None, serialized_key_size={-1 if key is None else len(key)}, "
        f"serialized_value_size={-1 if value is None else len(value)}, "
        f"serialized_header_size={sum(len(n) + len(v) for n, v in headers) if headers else -1})"
    )
    return html.escape(text, quote=False) + "<br>\n"


def file(path: str, data: Callable[[list[Any]], bytes]) -> Store:
    """Append, fsync, record the length, fsync."""
    into = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND)
    record = os.open(f"{path}.length", os.O_WRONLY | os.O_CREAT)
    length = 0

    def store(messages: list[Any]) -> None:
        nonlocal length
        text = data(messages)
        assert os.write(into, text) == len(text)
        os.fsync(into)
        length += len(text)
        os.pwrite(record, struct.pack(">Q", length), 0)
        os.fsync(record)

    return store


def rows(messages: list[Any], now: Any) -> Iterator[tuple[Any, ...]]:
    for message in messages:
        kind, timestamp = message.timestamp()
        headers = message.headers()
        text = json.dumps(headers) if headers else None
        yield 1, message.offset(), timestamp, kind - 1, message.key(), message.value(), text, now


def sqlite(path: str, table: str) -> Store:
    connection = sqlite3.connect(path, isolation_level=None)
    connection.executescript(
        "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; CREATE TABLE raw_position (next_offset INTEGER);"
        "INSERT INTO raw_position VALUES (0);"
        "CREATE TABLE raw_message (position_id, offset, timestamp, timestamp_type, key, value, headers, stored_at,"
        "    UNIQUE (position_id, offset));"
    )

    def store(messages: list[Any]) -> None:
        now = str(datetime.now(UTC))
        connection.execute("BEGIN IMMEDIATE")
        connection.execute("UPDATE raw_position SET next_offset = ?", [messages[-1].offset() + 1])
        connection.executemany(f"INSERT INTO {table} ({COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?)", rows(messages, now))  # noqa: S608
        connection.execute("COMMIT")

    return store


def postgres(url: str) -> Store:
    import psycopg

    connection = psycopg.connect(url, autocommit=True)
    connection.execute("CREATE TABLE IF NOT EXISTS raw_position (next_offset int8)")
    connection.execute("INSERT INTO raw_position VALUES (0)")

    def store(messages: list[Any]) -> None:
        now = datetime.now(UTC)
        with connection.transaction(), connection.cursor() as cursor:
            cursor.execute("UPDATE raw_position SET next_offset = %s", [messages[-1].offset() + 1])
            with cursor.copy(f"COPY tkcons_message ({COLUMNS}) FROM STDIN (FORMAT BINARY)") as copy:
                copy.set_types(["int8", "int8", "int8", "int2", "bytea", "bytea", "text", "timestamptz"])
                for row in rows(messages, now):
                    copy.write_row(row)

    return store


def main(kind: str, topic: str, count: str, where: str = "") -> None:
    if kind == "nothing-tuned":  # as `manage.py consume` tunes it
        from tk import collector

        collector.spare()
    stores: dict[str, Callable[[], Store]] = {
        "nothing": lambda: nothing,
        "nothing-tuned": lambda: nothing,
        "values": lambda: file(where, lambda messages: b"\n".join([m.value() for m in messages]) + b"\n"),
        "lines": lambda: file(where, lambda messages: "".join([line(m) for m in messages]).encode()),
        "sqlite": lambda: sqlite(where, "tkcons_message"),
        "sqlite-unique": lambda: sqlite(where, "raw_message"),
        "postgres": lambda: postgres(where),
    }
    consume(topic, int(count), stores[kind](), 1_000 if kind.startswith("nothing") else BATCH)


if __name__ == "__main__":
    main(*sys.argv[1:])
