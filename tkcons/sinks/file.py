"""File sinks: append, fsync, then record lengths and positions in one atomic step."""

import contextlib
import fcntl
import os
import re
import sqlite3
import time
from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from confluent_kafka import Message
from django.core.exceptions import ImproperlyConfigured
from django.utils.translation import gettext_noop as _

from tkcons import repeats
from tkcons.conf import settings
from tkcons.errors import SinkDamaged, SinkLocked, SinkUnavailable
from tkcons.sinks.base import Batch, Claim, Place, Sink
from tkcons.sinks.ledger import Ledger, Recorded
from tkcons.sinks.lines import Where, json_lines, lines, where_json, where_line

FLAGS = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW  # a symlink in its place is refused
FORGET_SECONDS = 3600.0  # how often events that are too old are forgotten


class FileSink(Sink):
    """Appends messages to files on a local disk of this host; a subclass says how a message is written.

    path: the file. Its name may hold ``{topic}`` and ``{partition}``. With ``{partition}`` several processes write,
    each to files of its own partitions; without it one process writes, and a second one waits.
    max_bytes, max_seconds: a file is put aside as ``<name>.000001`` and so on after the batch with which it reaches
    this size or age; None: never.

    Beside the files: `.positions` (what is recorded), `.lock` (who writes).
    """

    where: Callable[[bytes], Where] | None = None  # what a line tells of its message, for the audit; None: not enough

    def __init__(
        self,
        group: str,
        *,
        path: str | Path,
        max_bytes: int | None = None,
        max_seconds: float | None = None,
        **options: Any,
    ) -> None:
        super().__init__(group, **options)
        self.path = Path(path)
        bare = re.sub("{(topic|partition)}", "", self.path.name)
        if re.search("[{}]", f"{self.path.parent}{bare}"):
            raise ImproperlyConfigured(f"{path}: only {{topic}} and {{partition}}, only in the file's name.")
        self.max_bytes = max_bytes
        self.max_seconds = max_seconds
        self._shared = "{partition}" in self.path.name
        self._files: dict[str, int] = {}
        self._lock = -1
        self._ledger: Ledger | None = None
        self._forgot_at = 0.0

    @abstractmethod
    def text(self, messages: Sequence[Message]) -> bytes:
        """Messages of one partition as they stand in the file; there is at least one."""

    @property
    def ledger(self) -> Ledger:
        if self._ledger is None:
            raise SinkUnavailable(f"{self.path} is not open.")
        return self._ledger

    def open(self) -> None:
        with self._translated():
            self.path.parent.mkdir(parents=True, exist_ok=True)
            if not self._shared:
                self._take_lock()
        try:
            with self._translated():
                self._ledger = Ledger(self.beside(".positions"))
                self._clear_if_wanted()
                self._cut(self._ledger.names() if "{" in self.path.name else [self.path.name])
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        if self._ledger is not None:
            self._ledger.close()  # waits for a write under way, which has the files in its hands
            self._ledger = None
        self._close_files()
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    def claim(self, places: Iterable[Place]) -> dict[Place, Claim]:
        with self._translated():
            return self.ledger.claim(places)

    def begin(self, starts: dict[Place, int]) -> None:
        with self._translated():
            self.ledger.begin(starts)

    def knows(self, topic: str) -> bool:
        with self._translated():
            return self.ledger.knows(topic)

    def begun(self, places: Iterable[Place]) -> dict[Place, int]:
        with self._translated():
            wanted = set(places)
            return {place: start for place, start, _ in self.ledger.positions() if place in wanted}

    def write(self, batches: Sequence[Batch]) -> None:
        with self._translated():
            self._clear_if_wanted()
            found = repeats.find(batches, self.ledger.seen)
            parts: dict[str, list[bytes]] = {}
            for batch in found.batches:
                if batch.messages:
                    parts.setdefault(self.name(batch.place), []).append(self.text(batch.messages))
            for name in parts.keys() - self._files.keys():
                self.ledger.file(name)  # committed before the file is made: after a crash, opening cuts it off
            full = False
            try:
                with self.ledger.transaction():
                    self.ledger.advance(found.batches)  # refuses a stale owner before anything is appended
                    self.ledger.remember(found.events)
                    self.ledger.note((place, offset, offset + 1) for place, offset in found.repeats)
                    self.ledger.note((b.place, b.claim.next_offset, b.end) for b in batches if not b.messages)  # a seek
                    for name, pieces in parts.items():
                        full |= self._append(name, b"".join(pieces))
            except BaseException:
                # After a failed fsync the kernel may have dropped the pages: it is never tried again on this file
                # description. The next write opens the files anew and cuts off what is not recorded.
                self._close_files()
                raise
        if full:
            with contextlib.suppress(OSError, sqlite3.Error):  # the messages are stored; the next write does this too
                self._cut(parts)

    def tick(self) -> None:
        with self._translated():
            self._clear_if_wanted()
            now = time.time()
            if now - self._forgot_at > FORGET_SECONDS:
                self._forgot_at = now
                self.ledger.forget(now - settings.EVENT_DAYS * 86_400)

    def announce(self, start: str) -> None:
        """The server has started: empty the files, once for each `start`. Their owner does it, or, without one, we."""
        with self._translated():
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with contextlib.closing(Ledger(self.beside(".positions"))) as ledger:
                ledger.want(start)
        with contextlib.suppress(SinkLocked):  # the owner looks once a second
            try:
                self.open()
            finally:
                self.close()

    def name(self, place: Place) -> str:
        """The name of the file that this place is written to."""
        # Kafka's names of topics have letters, digits and ._- alone: no path leads out of the folder.
        return self.path.name.replace("{topic}", place.topic).replace("{partition}", str(place.partition))

    def _append(self, name: str, data: bytes) -> bool:
        """Append within a transaction of the ledger; say whether the file is to be put aside now."""
        number, recorded = self._ready(name)
        view = memoryview(data)
        try:
            while view:
                view = view[os.write(number, view) :]  # a short write: the rest again
            os.fsync(number)
        except OSError:
            with contextlib.suppress(OSError):
                os.ftruncate(number, recorded.length)  # readers need not see half a line
            raise
        length = recorded.length + len(data)
        since = recorded.since or time.time()
        full = self.max_bytes is not None and length >= self.max_bytes
        old = self.max_seconds is not None and time.time() - since >= self.max_seconds
        self.ledger.record(name, Recorded(length, since, self._free_name(name) if full or old else ""))
        return full or old

    def _ready(self, name: str) -> tuple[int, Recorded]:
        """The open file, exactly as long as recorded. Within a transaction of the ledger."""
        recorded = self.ledger.file(name)
        path = self.path.with_name(name)
        if recorded.aside:
            self._put_aside(path, path.with_name(recorded.aside))
            recorded = Recorded(0, 0, "")
            self.ledger.record(name, recorded)
        number = self._files.get(name, -1)
        if number >= 0 and not _is_at(path, number):  # another process has put it aside
            os.close(self._files.pop(name))
            number = -1
        if number < 0:
            number = self._files[name] = os.open(path, FLAGS, 0o644)
            _sync_folder(path)
        length = os.fstat(number).st_size
        if length < recorded.length:
            raise SinkDamaged(
                _(
                    "%(path)s has %(size)d bytes, %(recorded)d were recorded: something else has shortened it. "
                    "Restore it, or remove %(positions)s too, which reads and writes everything again."
                ),
                path=path,
                size=length,
                recorded=recorded.length,
                positions=self.beside(".positions").name,
            )
        if length > recorded.length:
            os.ftruncate(number, recorded.length)
        return number, recorded

    def _put_aside(self, path: Path, aside: Path) -> None:
        """Recorded before, so that a crash in between leaves it to be done: the new name was free then."""
        if path.exists() and not aside.exists():
            path.rename(aside)
        elif path.exists():
            raise SinkDamaged(
                _("%(aside)s was made by something else: move it away, then %(path)s is put aside there."),
                aside=aside,
                path=path,
            )
        _sync_folder(path)

    def put_aside(self, name: str) -> list[tuple[int, Path]]:
        """The files of this name that have been put aside, by their numbers, the oldest first."""
        paths = self.path.parent.iterdir()
        return sorted((int(found[1]), path) for path in paths if (found := _aside(name, path.name)))

    def _free_name(self, name: str) -> str:
        taken = self.put_aside(name)
        return f"{name}.{(taken[-1][0] if taken else 0) + 1:06}"

    def _cut(self, names: Iterable[str]) -> None:
        """Cut off what was never recorded, put aside what is full."""
        with self.ledger.transaction():
            for name in names:
                self._ready(name)

    def _clear_if_wanted(self) -> None:
        """Empty the files for a new start. Recorded first: after a crash between the two, opening cuts the rest."""
        if names := self.ledger.clear(self.name):
            self._cut(names)

    def _close_files(self) -> None:
        while self._files:
            os.close(self._files.popitem()[1])

    def _take_lock(self) -> None:
        number = os.open(self.beside(".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
        try:
            fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)  # the kernel lets it go when the process ends
        except BlockingIOError as error:
            os.close(number)
            raise SinkLocked(
                _(
                    "Another process writes to %(path)s; this one waits until that ends. "
                    "With {partition} in the file's name several may write."
                ),
                path=self.path,
            ) from error
        self._lock = number

    def beside(self, ending: str) -> Path:
        # With the template's braces in it, which no topic's name can have: no topic's file is this one.
        return self.path.with_name(self.path.name + ending)

    @contextmanager
    def _translated(self) -> Iterator[None]:
        """The system's errors as ours."""
        try:
            yield
        except (OSError, sqlite3.Error) as error:
            raise SinkUnavailable(
                _("%(path)s cannot be written now: %(error)s"), path=self.path, error=error
            ) from error


class TextFileSink(FileSink):
    """The tutorial's file: a line a message, as kafka-python prints it.

    clear_on_start: whether it is emptied at each start of the server (default: TKCONS["CLEAR_ON_START"]).
    """

    where = staticmethod(where_line)

    def __init__(self, group: str, *, clear_on_start: bool | None = None, **options: Any) -> None:
        super().__init__(group, **options)
        self.clear_on_start = clear_on_start

    def text(self, messages: Sequence[Message]) -> bytes:
        return lines(messages)


class JsonLinesSink(FileSink):
    """A JSON object a line: topic, partition, offset, timestamp (ms), key, value, headers, as /tkcons/read gives them."""

    where = staticmethod(where_json)

    def text(self, messages: Sequence[Message]) -> bytes:
        return json_lines(messages)


def _aside(name: str, found: str) -> re.Match[str] | None:
    return re.fullmatch(re.escape(name) + r"\.(\d{6,})", found)


def _is_at(path: Path, number: int) -> bool:
    try:
        return os.path.samestat(path.lstat(), os.fstat(number))
    except FileNotFoundError:
        return False


def _sync_folder(path: Path) -> None:
    """A new name is there after a power cut only when its folder is synced."""
    number = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(number)
    finally:
        os.close(number)
