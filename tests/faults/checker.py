"""What became of each request, seen from outside: plain clients alone; nothing of the product is imported here.

The journal says what was sent and what was answered; Kafka and the stores say what is there. A message's value is its id.
"""

import base64
import json
import re
import sqlite3
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import psycopg
from confluent_kafka import Consumer, KafkaException, TopicPartition

SHOWN = 5  # ids that are named
PATIENCE_SECONDS = 60.0


@dataclass
class Request:
    """client: those of one client were sent one after another, each after the answer to the one before."""

    client: str
    number: int
    sent_at: float  # Unix seconds
    outcome: str = "unknown"  # confirmed, refused, or unknown: also when no answer came
    status: int = 0
    code: str = ""
    seconds: float = 0.0


@dataclass
class Stored:
    """A message in a store. Lists of them are in the order of storing."""

    value: str
    partition: int
    offset: int
    at: float | None = None  # Unix seconds; None: the store does not say
    topic: str = ""


@dataclass
class Report:
    """Counts, and the first ids of each fault."""

    store: str
    sent: int = 0
    confirmed: int = 0
    refused: int = 0
    unknown: int = 0
    stored: int = 0
    apart: int = 0  # confirmed, and gone with the topic that was deleted
    misordered: int = 0
    torn: int = 0  # lines that are no message
    recovery: float | None = None  # seconds from the last fault's end to the storing of a message sent after it
    missing: list[str] = field(default_factory=list)
    duplicates: list[str] = field(default_factory=list)
    strangers: list[str] = field(default_factory=list)  # stored, and never sent
    denied: list[str] = field(default_factory=list)  # stored, though the answer said that they are not

    def faults(self) -> list[str]:
        """The names of what is wrong; empty: every promise was kept."""
        names = ["missing", "duplicates", "strangers", "denied", "misordered", "torn"]
        return [name for name in names if getattr(self, name)]

    def __str__(self) -> str:
        counts = {
            name: len(found) if isinstance(found, list) else found
            for name, found in vars(self).items()
            if name not in {"store", "recovery"}
        }
        shown = [
            f"{name}: {', '.join(value[:40] for value in getattr(self, name)[:SHOWN])}"
            for name in ("missing", "duplicates", "strangers", "denied")
        ]
        recovery = "-" if self.recovery is None else f"{self.recovery:.1f}"
        parts = [f"{name} {count}" for name, count in counts.items()]
        named = [text for text in shown if not text.endswith(": ")]
        return f"{self.store}: {', '.join(parts)}, recovery {recovery} s" + "".join(f"\n    {text}" for text in named)


@dataclass
class Journal:
    """What the load generators wrote. Times are Unix seconds.

    marks: when something was done, by its name, the last time.
    remade: for each time that the topic was deleted and made again, since when what was confirmed may have gone with it
    (at "all stored", if that is marked: until then nothing may), and when it was there again.
    """

    requests: dict[str, Request] = field(default_factory=dict)
    marks: dict[str, float] = field(default_factory=dict)
    remade: list[tuple[float, float]] = field(default_factory=list)


def read_journal(folder: Path) -> Journal:
    journal = Journal()
    for path in sorted(folder.glob("*.jsonl")):
        for text in path.read_text().splitlines():
            row = json.loads(text)
            if "mark" in row:
                if row["mark"] == "topic made again":
                    journal.remade.append((journal.marks.get("all stored", 0.0), row["at"]))
                journal.marks[row["mark"]] = row["at"]
            elif "outcome" in row:
                request = journal.requests[row["value"]]
                request.outcome, request.status, request.code = row["outcome"], row["status"], row["code"]
                request.seconds = row["at"] - request.sent_at
            else:
                journal.requests[row["value"]] = Request(row["client"], row["number"], row["at"])
    return journal


def compare(journal: Journal, stored: Sequence[Stored], store: str, *, torn: int = 0) -> Report:
    """Hold what is stored against what was sent. Of unknown requests each may be there once or not at all."""
    report = Report(store, stored=len(stored), torn=torn)
    times = Counter(row.value for row in stored)
    for value, request in journal.requests.items():
        report.sent += 1
        setattr(report, request.outcome, getattr(report, request.outcome) + 1)
        if request.outcome == "confirmed" and value not in times:
            if any(since <= request.sent_at + request.seconds and request.sent_at < at for since, at in journal.remade):
                report.apart += 1
            else:
                report.missing.append(value)
        if request.outcome == "refused" and value in times:
            report.denied.append(value)
    report.duplicates = [value for value, count in times.items() if count > 1]
    report.strangers = [value for value in times if value not in journal.requests]
    report.misordered = _misordered(journal, stored)
    report.recovery = _recovery(journal, stored)
    return report


def _misordered(journal: Journal, stored: Sequence[Stored]) -> int:
    """Neighbours in the wrong order: in a partition by offset, and of one client, among confirmed ones, by number."""
    wrong = 0
    offsets: dict[int, int] = {}
    numbers: dict[tuple[int, str], int] = {}
    again = journal.remade[-1][1] if journal.remade else 0.0
    for row in stored:
        request = journal.requests.get(row.value)
        if again and (request is None or request.sent_at < again):
            continue  # of the topic that was deleted, whose offsets were others
        wrong += row.offset < offsets.get(row.partition, -1)
        offsets[row.partition] = row.offset
        if request is not None and request.outcome == "confirmed":
            place = (row.partition, request.client)
            wrong += request.number < numbers.get(place, -1)
            numbers[place] = request.number
    return wrong


def _recovery(journal: Journal, stored: Sequence[Stored]) -> float | None:
    ended = journal.marks.get("fault ended")
    if ended is None:
        return None
    after = [
        max(row.at or 0.0, request.sent_at + request.seconds)
        for row in stored
        if (request := journal.requests.get(row.value)) is not None and request.sent_at >= ended
    ]
    return min(after) - ended if after else None


# The stores, read with what is at hand.


def in_kafka(bootstrap: str, topic: str) -> list[Stored]:
    """Everything that the topic has now for a reader of committed messages, partition by partition."""
    return [
        Stored((message.value() or b"").decode(errors="replace"), message.partition(), message.offset())
        for message in messages_in(bootstrap, topic)
    ]


def messages_in(bootstrap: str, topic: str) -> list[Any]:
    consumer = Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": "faults.checker",
            "enable.auto.commit": False,
            "isolation.level": "read_committed",
            "log_level": 0,
        }
    )
    found: list[Any] = []
    try:
        partitions = consumer.list_topics(topic, timeout=PATIENCE_SECONDS).topics[topic].partitions
        for partition in partitions:
            place = TopicPartition(topic, partition)
            low, high = _ends(consumer, place)
            place.offset = low
            consumer.assign([place])
            while low < high:
                batch = consumer.consume(1_000, 1.0)
                for message in batch:
                    if message.error() is not None:
                        raise KafkaException(message.error())
                found += [message for message in batch if message.offset() < high]
                (at,) = consumer.position([TopicPartition(topic, partition)])
                low = max(low, at.offset)
    finally:
        consumer.close()
    return found


def _ends(consumer: Consumer, place: TopicPartition) -> tuple[int, int]:
    """The partition's first offset and the one after its last. Its leader may be moving, which the client hears late."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        try:
            ends: tuple[int, int] = consumer.get_watermark_offsets(place, timeout=PATIENCE_SECONDS)
        except KafkaException:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.5)
            consumer.list_topics(place.topic, timeout=PATIENCE_SECONDS)  # where the leader is now
        else:
            return ends


_MESSAGES = """
SELECT m.value, p.partition, m."offset", m.stored_at, p.topic
FROM tkcons_message m JOIN tkcons_position p ON p.id = m.position_id
WHERE p."group" = '{group}' ORDER BY m.id
"""
_COUNT = """
SELECT count(*) FROM tkcons_message m JOIN tkcons_position p ON p.id = m.position_id
WHERE p."group" = '{group}' AND p.topic = '{topic}'
"""


def in_database(url: str, group: str) -> list[Stored]:
    """The messages of a group in PostgreSQL or SQLite (an address)."""
    return [Stored(bytes(row[0]).decode(), *row[1:]) for row in _rows(url, _MESSAGES.format(group=group))]


def count_in_database(url: str, group: str, topic: str) -> int:
    """How many messages of a topic the group has stored."""
    query = _COUNT.format(group=group, topic=topic)
    return int(_fetch(url, query)[0][0])


def effects_in(url: str) -> list[Stored]:
    """What the handler under test wrote, a row a call."""
    rows = _rows(url, "SELECT value, partition, place, made_at FROM effect ORDER BY id")
    return [Stored(bytes(value).decode(), partition, offset, at) for value, partition, offset, at in rows]


def letters_in(url: str) -> list[Stored]:
    """The dead letters that the database lists."""
    rows = _rows(url, 'SELECT value, partition, "offset", made_at FROM tkcons_deadletter ORDER BY partition, "offset"')
    return [Stored(bytes(value).decode(), partition, offset, at) for value, partition, offset, at in rows]


def letters_sent(bootstrap: str, topic: str) -> list[Stored]:
    """The dead letters in their topic, each under the id of its letter once: a repeat has the same id."""
    found: dict[bytes, Stored] = {}
    for message in messages_in(bootstrap, topic):
        headers = dict(message.headers() or [])
        place = int(headers["dead-letter-partition"]), int(headers["dead-letter-offset"])
        found.setdefault(headers["dead-letter-id"], Stored(message.value().decode(), *place))
    return sorted(found.values(), key=lambda row: (row.partition, row.offset))


def _rows(url: str, query: str) -> Iterable[tuple[Any, ...]]:
    """Value, partition, offset, time (SQLite's is of no use), and what else there is."""
    for row in _fetch(url, query):
        yield (*row[:3], row[3].timestamp() if isinstance(row[3], datetime) else None, *row[4:])


def _fetch(url: str, query: str) -> list[tuple[Any, ...]]:
    if url.startswith("postgres"):
        with psycopg.connect(url, connect_timeout=10) as connection:
            return connection.execute(query).fetchall()
    path = url.removeprefix("sqlite:///")
    database = sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=60)
    try:
        return database.execute(query).fetchall()
    finally:
        database.close()


_LINE = re.compile(
    r"ConsumerRecord\(topic='([^']+)', partition=(\d+), offset=(\d+), .*, value=b'([^']*)', headers=.*\)<br>"
)


def in_text(path: Path) -> tuple[list[Stored], int]:
    """The messages in the tutorial's file, and how many lines are none."""
    lines = _whole_lines(path)
    found = [match for text in lines if (match := _LINE.fullmatch(text))]
    return [Stored(match[4], int(match[2]), int(match[3]), None, match[1]) for match in found], len(lines) - len(found)


def in_json_lines(path: Path) -> tuple[list[Stored], int]:
    """The messages in a file of JSON Lines, and how many lines are none."""
    found, torn = [], 0
    for text in _whole_lines(path):
        try:
            row = json.loads(text)
            value = base64.b64decode(row["value"]).decode() if "encoding" in row else row["value"]
            found.append(Stored(value, row["partition"], row["offset"], None, row["topic"]))
        except (ValueError, KeyError, TypeError):
            torn += 1
    return found, torn


def _whole_lines(path: Path) -> list[str]:
    """A last line without its end is being written, or will be cut off."""
    if not path.exists():
        return []
    return path.read_bytes().decode(errors="replace").split("\n")[:-1]
