"""The text file sink: append, fsync, then record the length and the positions in one atomic step."""

import contextlib
import fcntl
import os
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from confluent_kafka import Message

from tkcons.errors import SinkDamaged, SinkLocked, SinkUnavailable
from tkcons.sinks.base import Batch, Claim, Place, Sink
from tkcons.sinks.ledger import Ledger
from tkcons.sinks.lines import line

FLAGS = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW  # a symlink in its place is refused


class TextFileSink(Sink):
    """Writes a line a message to one file on a local disk of this host.

    Option `path`. Beside the file: `.positions` (what is recorded), `.lock` (who writes). `clear_on_start`: whether the
    file is emptied at each start of the server (default: TKCONS["CLEAR_ON_START"]).
    """

    line: Callable[[Message], str] = staticmethod(line)

    def __init__(self, group: str, *, path: str | Path, clear_on_start: bool | None = None, **options: Any) -> None:
        super().__init__(group, **options)
        self.path = Path(path)
        self.clear_on_start = clear_on_start
        self._file = -1
        self._lock = -1
        self._length = 0
        self._ledger: Ledger | None = None

    @property
    def ledger(self) -> Ledger:
        if self._ledger is None:
            raise SinkUnavailable(f"{self.path} is not open.")
        return self._ledger

    def open(self) -> None:
        with self._translated():
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._take_lock()
        try:
            with self._translated():
                self._ledger = Ledger(self._beside(".positions"))
                self._clear_if_wanted()
                self._open_file()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        for number in (self._file, self._lock):
            if number >= 0:
                os.close(number)
        self._file = self._lock = -1
        if self._ledger is not None:
            self._ledger.close()
            self._ledger = None

    def claim(self, places: Iterable[Place]) -> dict[Place, Claim]:
        with self._translated():
            return self.ledger.claim(places)

    def begin(self, starts: dict[Place, int]) -> None:
        with self._translated():
            self.ledger.begin(starts)

    def knows(self, topic: str) -> bool:
        with self._translated():
            return self.ledger.knows(topic)

    def write(self, batches: Sequence[Batch]) -> None:
        data = "".join([self.line(message) for batch in batches for message in batch.messages]).encode()
        with self._translated():
            self._clear_if_wanted()
            if self._file < 0:
                self._open_file()
            try:
                self._append(data)
                self.ledger.advance(batches, self._length + len(data))
            except BaseException:
                with contextlib.suppress(OSError):
                    os.ftruncate(self._file, self._length)
                # After a failed fsync the kernel may have dropped the pages: it is never tried again on this file
                # description. The next write opens the file anew and cuts off what is not recorded.
                os.close(self._file)
                self._file = -1
                raise
        self._length += len(data)

    def tick(self) -> None:
        with self._translated():
            self._clear_if_wanted()

    def announce(self, start: str) -> None:
        """The server has started: empty the file, once for each `start`. Its owner does it, or, without one, we do."""
        with self._translated():
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with contextlib.closing(Ledger(self._beside(".positions"))) as ledger:
                ledger.want(start)
        with contextlib.suppress(SinkLocked):  # its owner looks once a second
            try:
                self.open()
            finally:
                self.close()

    def _append(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            view = view[os.write(self._file, view) :]  # a short write: the rest again
        os.fsync(self._file)

    def _open_file(self) -> None:
        """Open the file and cut off what was never recorded."""
        recorded = self.ledger.length
        number = os.open(self.path, FLAGS, 0o644)
        length = os.fstat(number).st_size
        if length < recorded:
            os.close(number)
            raise SinkDamaged(
                f"{self.path} has {length} bytes, {recorded} were recorded: something else has shortened it. "
                f"Restore it, or remove {self._beside('.positions').name} too, which reads and writes everything again."
            )
        os.ftruncate(number, recorded)
        self._file, self._length = number, recorded

    def _clear_if_wanted(self) -> None:
        """Empty the file for a new start. Recorded first: after a crash between the two, opening cuts the rest."""
        if self.ledger.clear():
            if self._file >= 0:
                os.ftruncate(self._file, 0)
            self._length = 0

    def _take_lock(self) -> None:
        number = os.open(self._beside(".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
        try:
            fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)  # the kernel lets it go when the process ends
        except BlockingIOError as error:
            os.close(number)
            raise SinkLocked(f"Another process writes to {self.path}; this one waits until that ends.") from error
        self._lock = number

    def _beside(self, ending: str) -> Path:
        return self.path.with_name(self.path.name + ending)

    @contextmanager
    def _translated(self) -> Iterator[None]:
        """The system's errors as ours."""
        try:
            yield
        except (OSError, sqlite3.Error) as error:
            raise SinkUnavailable(f"{self.path} cannot be written now: {error}") from error
