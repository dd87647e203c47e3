"""What a file sink has recorded: lengths, positions, events seen, in one atomic step, in a small SQLite file.

SQLite in WAL mode with synchronous=FULL: a commit is one fsync, and after a crash all of it is there or nothing.
Its write lock is also what keeps the writers of one path template apart.
"""

import errno
import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from tkcons.errors import StaleOwner
from tkcons.repeats import Event
from tkcons.sinks.base import Batch, Claim, Place

SCHEMA = """
CREATE TABLE IF NOT EXISTS server (id INTEGER PRIMARY KEY CHECK (id = 0), start TEXT NOT NULL);
INSERT OR IGNORE INTO server VALUES (0, '');
CREATE TABLE IF NOT EXISTS files (name TEXT PRIMARY KEY, length INTEGER NOT NULL, start TEXT NOT NULL,
    since REAL NOT NULL, aside TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS position (topic TEXT NOT NULL, topic_id TEXT NOT NULL, partition INTEGER NOT NULL,
    generation INTEGER NOT NULL, start_offset INTEGER NOT NULL, next_offset INTEGER NOT NULL,
    PRIMARY KEY (topic_id, partition)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS event (topic_id TEXT NOT NULL, event_id TEXT NOT NULL, seen REAL NOT NULL,
    PRIMARY KEY (topic_id, event_id)) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS event_seen ON event (seen);
CREATE TABLE IF NOT EXISTS gap (topic_id TEXT NOT NULL, partition INTEGER NOT NULL, first_offset INTEGER NOT NULL,
    end_offset INTEGER NOT NULL, PRIMARY KEY (topic_id, partition, first_offset)) WITHOUT ROWID;
"""


class Recorded(NamedTuple):
    """length: bytes that are confirmed; since: when the first of them was written (Unix seconds);
    aside: the name under which the file is to be put aside, if it is full."""

    length: int
    since: float
    aside: str


class Ledger:
    """The record of one path template. Used by two threads, one at a time. Raises sqlite3.Error, OSError."""

    def __init__(self, path: Path) -> None:
        if path.is_symlink():
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), str(path))
        self._lock = threading.RLock()
        self._db = sqlite3.connect(path, timeout=10, isolation_level=None, check_same_thread=False)
        self._db.execute("PRAGMA journal_mode=WAL")
        self._db.execute("PRAGMA synchronous=FULL")
        self._db.executescript(SCHEMA)

    def close(self) -> None:
        with self._lock:
            self._db.close()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """BEGIN IMMEDIATE ... COMMIT, or ROLLBACK on an error: sqlite3's own context manager does not begin one."""
        with self._lock:
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._db.execute("COMMIT")
            except BaseException:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise

    # Files.

    def names(self) -> list[str]:
        with self._lock:
            return [name for (name,) in self._db.execute("SELECT name FROM files")]

    def file(self, name: str) -> Recorded:
        """What is recorded of a file. A new one is recorded as empty."""
        with self._lock:
            row = self._db.execute("SELECT length, since, aside FROM files WHERE name = ?", (name,)).fetchone()
            if row is None:
                self._db.execute("INSERT INTO files SELECT ?, 0, start, 0, '' FROM server", (name,))
                return Recorded(0, 0, "")
        return Recorded(*row)

    def record(self, name: str, recorded: Recorded) -> None:
        self._db.execute("UPDATE files SET length = ?, since = ?, aside = ? WHERE name = ?", (*recorded, name))

    def want(self, start: str) -> None:
        """Say that the server has started; the files' owner empties them, once."""
        with self._lock:
            self._db.execute("UPDATE server SET start = ? WHERE start != ?", (start, start))

    def clear(self, name: Callable[[Place], str]) -> list[str]:
        """Record length 0 and the start, in one step, for files not emptied since the server's start; their names.

        What was in them is noted as left out. name: of the file that a place is written to.
        """
        with self._lock:
            if not self._db.execute("SELECT 1 FROM files WHERE start != (SELECT start FROM server)").fetchone():
                return []
        with self.transaction():
            emptied = self._db.execute(
                "UPDATE files SET length = 0, start = (SELECT start FROM server) "
                "WHERE start != (SELECT start FROM server) RETURNING name"
            )
            names = [each for (each,) in emptied.fetchall()]
            self.note(position for position in self.positions() if name(position[0]) in names)
        return names

    # Positions.

    def claim(self, places: Iterable[Place]) -> dict[Place, Claim]:
        claims = {}
        with self.transaction():
            for place in places:
                row = self._db.execute(
                    "UPDATE position SET generation = generation + 1 WHERE topic_id = ? AND partition = ? "
                    "RETURNING generation, next_offset",
                    (place.topic_id, place.partition),
                ).fetchone()
                if row is not None:
                    claims[place] = Claim(*row)
        return claims

    def begin(self, starts: dict[Place, int]) -> None:
        rows = [(*place, offset, offset) for place, offset in starts.items()]
        with self.transaction():
            self._db.executemany("INSERT OR IGNORE INTO position VALUES (?, ?, ?, 0, ?, ?)", rows)

    def knows(self, topic: str) -> bool:
        with self._lock:
            found = self._db.execute("SELECT 1 FROM position WHERE topic = ? LIMIT 1", (topic,)).fetchone()
        return found is not None

    def advance(self, batches: Sequence[Batch]) -> None:
        """Move the positions on, inside a transaction; raises StaleOwner."""
        for batch in batches:
            moved = self._db.execute(
                "UPDATE position SET next_offset = ? "
                "WHERE topic_id = ? AND partition = ? AND generation = ? AND next_offset = ?",
                (batch.end, batch.place.topic_id, batch.place.partition, *batch.claim),
            )
            if not moved.rowcount:
                raise StaleOwner(f"{batch.place.topic}[{batch.place.partition}] has another owner; nothing was stored.")

    def positions(self) -> list[tuple[Place, int, int]]:
        """Each place with the offset where it began and the next one."""
        query = "SELECT topic, topic_id, partition, start_offset, next_offset FROM position ORDER BY 1, 2, 3"
        with self._lock:
            return [(Place(*row[:3]), row[3], row[4]) for row in self._db.execute(query)]

    # Offsets that are not in the files, for a reason: repeats of an event, skipped, emptied.

    def note(self, gaps: Iterable[tuple[Place, int, int]]) -> None:
        """Note ranges (first, end) as such, inside a transaction."""
        rows = [(place.topic_id, place.partition, first, end) for place, first, end in gaps]
        self._db.executemany("INSERT OR REPLACE INTO gap VALUES (?, ?, ?, ?)", rows)

    def gaps(self, place: Place) -> Iterator[tuple[int, int]]:
        """Those of this place, rising."""
        query = "SELECT first_offset, end_offset FROM gap WHERE topic_id = ? AND partition = ? ORDER BY first_offset"
        yield from self._db.execute(query, (place.topic_id, place.partition))

    # Events.

    def seen(self, events: set[Event]) -> set[Event]:
        query = "SELECT 1 FROM event WHERE topic_id = ? AND event_id = ?"
        with self._lock:
            return {event for event in events if self._db.execute(query, event).fetchone()}

    def remember(self, events: Iterable[Event]) -> None:
        now = time.time()
        self._db.executemany("INSERT INTO event VALUES (?, ?, ?)", [(*event, now) for event in events])

    def forget(self, before: float) -> None:
        """Forget events older than this (Unix seconds)."""
        with self._lock:
            self._db.execute("DELETE FROM event WHERE seen < ?", (before,))
