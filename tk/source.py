"""A file or a pipe that a command reads until its end or Ctrl-C, and how far it is, on standard error."""

import signal
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from io import TextIOWrapper
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any, BinaryIO, Self, TextIO, TypeVar

from tk.lines import PIECE

T = TypeVar("T")

TELL_SECONDS = 5.0  # between lines without a terminal


class _Stop(BaseException):
    """Ctrl-C while the source is read."""


class Source:
    """The first Ctrl-C ends the source, so that what was read is still sent and confirmed; the second is the usual one.

    read: bytes so far. size: of all, where it is known. interrupted: by Ctrl-C.
    """

    def __init__(self, name: str) -> None:
        self.read = 0
        self.size: int | None = None
        self.interrupted = False
        self._reading = False
        self._file: BinaryIO = sys.stdin.buffer
        if name != "-":
            self.size = Path(name).stat().st_size
            self._file = Path(name).open("rb")  # noqa: SIM115  closed by __exit__
        self._name = name

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            self._before = signal.signal(signal.SIGINT, self._interrupt)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGINT, self._before)
        if self._name != "-":
            self._file.close()

    def _interrupt(self, number: int, frame: FrameType | None) -> None:
        self.interrupted = True
        signal.signal(signal.SIGINT, self._before)
        if self._reading:
            raise _Stop

    def pieces(self) -> Iterator[bytes]:
        """What has arrived, at most PIECE bytes at once."""
        read: Any = getattr(self._file, "read1", self._file.read)
        for piece in self._until_stopped(iter(lambda: read(PIECE), b"")):
            self.read += len(piece)
            yield piece

    def text(self) -> Iterator[str]:
        """Lines with their ends; bytes that are no UTF-8 as surrogates."""
        text = TextIOWrapper(self._file, encoding="utf-8-sig", errors="surrogateescape", newline="")
        for line in self._until_stopped(text):
            self.read += len(line)
            yield line
        text.detach()

    def _until_stopped(self, items: Iterable[T]) -> Iterator[T]:
        waiting = iter(items)
        while not self.interrupted:
            self._reading = True
            try:
                item = next(waiting)
            except (StopIteration, _Stop):
                return
            finally:
                self._reading = False
            yield item


class Progress:
    """A bar on a terminal where rich is installed, else a line every TELL_SECONDS."""

    def __init__(self, stream: TextIO, source: Source) -> None:
        self._stream = stream
        self._source = source
        self._bar: Any = None
        if stream.isatty():
            self._bar = _bar(source.size)
        self._began = self._told = time.monotonic()
        self._records = 0

    def __enter__(self) -> Self:
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()
        else:
            self._tell()

    def show(self, records: int) -> None:
        """So many records are done with."""
        self._records = records
        if self._bar is not None:
            self._bar.update(self._bar.task_ids[0], completed=self._source.read, records=self._rate())
        elif time.monotonic() - self._told > TELL_SECONDS:
            self._told = time.monotonic()
            self._tell()

    def _rate(self) -> str:
        seconds = max(time.monotonic() - self._began, 0.001)
        return f"{self._records:,} records, {self._records / seconds:,.0f}/s"

    def _tell(self) -> None:
        self._stream.write(self._rate() + "\n")


def _bar(size: int | None) -> Any:
    try:
        from rich.console import Console
        from rich.progress import BarColumn, TextColumn, TimeRemainingColumn
        from rich.progress import Progress as Bar
    except ImportError:  # the extra `local` brings it
        return None
    bar = Bar(BarColumn(), TextColumn("{task.fields[records]}"), TimeRemainingColumn(), console=Console(stderr=True))
    bar.add_task("", total=size, records="")
    return bar
