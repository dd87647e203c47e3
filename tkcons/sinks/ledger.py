"""What a file sink has recorded: the file's length and the positions, in one atomic step, in a small SQLite file.

SQLite in WAL mode with synchronous=FULL: a commit is one fsync, and after a crash all of it is there or nothing.
"""

import sqlite3
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tkcons.errors import StaleOwner
from tkcons.sinks.base import Batch, Claim, Place

SCHEMA = """
CREATE TABLE IF NOT EXISTS file (id INTEGER PRIMARY KEY CHECK (id = 0), length INTEGER NOT NULL,
    start TEXT NOT NULL, wanted TEXT NOT NULL);
INSERT OR IGNORE INTO file VALUES (0, 0, '', '');
CREATE TABLE IF NOT EXISTS position (topic TEXT NOT NULL, topic_id TEXT NOT NULL, partition INTEGER NOT NULL,
    generation INTEGER NOT NULL, start_offset INTEGER NOT NULL, next_offset INTEGER NOT NULL,
    PRIMARY KEY (topic_id, partition)) WITHOUT ROWID;
"""


class Ledger:
    """The record of one file: its length, the server start for which it was last emptied and the newest one, positions.

    Used by two threads, one at a time.
    """

    def __init__(self, path: Path) -> None:
        self._lock = threading.Lock()
        self._db = sqlite3.connect(path, timeout=10, isolation_level=None, check_same_thread=False)
        self._db.execute("PRAGMA journal_mode=WAL")
        self._db.execute("PRAGMA synchronous=FULL")
        self._db.executescript(SCHEMA)

    def close(self) -> None:
        with self._lock:
            self._db.close()

    @property
    def length(self) -> int:
        """Bytes of the file that are recorded; what follows them was never confirmed."""
        with self._lock:
            (length,) = self._db.execute("SELECT length FROM file").fetchone()
        return int(length)

    def want(self, start: str) -> None:
        """Say that the server has started; the file's owner empties it, once."""
        with self._lock:
            self._db.execute("UPDATE file SET wanted = ? WHERE wanted != ?", (start, start))

    def clear(self) -> bool:
        """If a start is waiting, record the length 0 and the start, in one step; say whether."""
        with self._lock:
            changed = self._db.execute("UPDATE file SET length = 0, start = wanted WHERE start != wanted")
        return changed.rowcount == 1

    def claim(self, places: Iterable[Place]) -> dict[Place, Claim]:
        claims = {}
        with self._transaction():
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
        with self._transaction():
            self._db.executemany("INSERT OR IGNORE INTO position VALUES (?, ?, ?, 0, ?, ?)", rows)

    def knows(self, topic: str) -> bool:
        with self._lock:
            found = self._db.execute("SELECT 1 FROM position WHERE topic = ? LIMIT 1", (topic,)).fetchone()
        return found is not None

    def advance(self, batches: Sequence[Batch], length: int) -> None:
        """Record the file's new length and the positions after the batches; raises StaleOwner and records nothing."""
        with self._transaction():
            for batch in batches:
                moved = self._db.execute(
                    "UPDATE position SET next_offset = ? "
                    "WHERE topic_id = ? AND partition = ? AND generation = ? AND next_offset = ?",
                    (batch.end, batch.place.topic_id, batch.place.partition, *batch.claim),
                )
                if not moved.rowcount:
                    raise StaleOwner
            self._db.execute("UPDATE file SET length = ?", (length,))

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        """BEGIN IMMEDIATE ... COMMIT, or ROLLBACK on an error: sqlite3's own context manager does not begin one."""
        with self._lock:
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield
            except BaseException:
                self._db.execute("ROLLBACK")
                raise
            self._db.execute("COMMIT")
