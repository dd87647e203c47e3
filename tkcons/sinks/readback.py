"""What a file sink has recorded, read back, by another process too, while the group may write."""

import contextlib
import sqlite3
from collections.abc import Callable, Iterator
from io import BytesIO
from typing import BinaryIO

from tkcons.errors import SinkDamaged, SinkUnavailable
from tkcons.sinks.base import Place
from tkcons.sinks.file import FileSink
from tkcons.sinks.ledger import Ledger
from tkcons.sinks.lines import Where


class Readback:
    """The record and the files of one sink. Raises SinkUnavailable, SinkDamaged."""

    def __init__(self, sink: FileSink) -> None:
        self._sink = sink
        with self._translated():
            self._ledger = Ledger(sink.beside(".positions"))

    def close(self) -> None:
        self._ledger.close()

    def positions(self) -> list[tuple[Place, int, int]]:
        """Each place with the offset where it began and the next one."""
        with self._translated():
            return self._ledger.positions()

    def gaps(self, place: Place) -> Iterator[tuple[int, int]]:
        """Ranges (first, end) that are left out for a reason: repeats, skipped, emptied. Rising."""
        with self._translated():
            yield from self._ledger.gaps(place)

    def offsets(self, place: Place) -> Iterator[int]:
        """Those of this place's lines, in the order of writing, as they are when the first is asked for."""
        where = self._sink.where
        if where is None:
            return
        name = self._sink.name(place)
        path = self._sink.path.with_name(name)
        with self._translated():
            with self._ledger.transaction():  # nothing is written or put aside meanwhile
                aside = self._sink.put_aside(name)
                recorded = self._ledger.file(name)
                current: BinaryIO = path.open("rb") if path.exists() else BytesIO()
            with current:
                for _, path in aside:
                    with path.open("rb") as file:
                        yield from _offsets(place, where, file, path.stat().st_size)
                yield from _offsets(place, where, current, recorded.length)

    @contextlib.contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except (OSError, sqlite3.Error) as error:
            raise SinkUnavailable(f"{self._sink.path} cannot be read now: {error}") from error
        except ValueError as error:
            raise SinkDamaged(f"{self._sink.path} has a line that the sink did not write: {error}") from error


def _offsets(place: Place, where: Callable[[bytes], Where], file: BinaryIO, left: int) -> Iterator[int]:
    """Of this place, in the first so many bytes."""
    for line in file:
        left -= len(line)
        if left < 0:
            return
        found = where(line)
        if found.partition == place.partition and found.topic == place.topic:
            yield found.offset
