"""Records from CSV: a line of column names, then a record a row."""

import csv
from collections import deque
from collections.abc import Iterator

from tk.errors import BadEncoding, BadRequest, TkError
from tk.pipeline import WINDOW, Item
from tk.record import Record, check
from tk.serializers import to_bytes


class Rows:
    """Windows of records. The value is the row as a JSON object of texts, or one column as it is; the key is a column.

    Raises BadRequest for a first line that cannot be read or lacks a column.
    """

    def __init__(self, text: Iterator[str], topic: str, key: str = "", value: str = "") -> None:
        self._topic = topic
        self._reader = csv.reader(text, strict=True)
        self._numbers: deque[int] = deque()
        try:
            self._header = next(self._reader, [])
        except csv.Error as error:
            raise BadRequest(f"The first line, of names, cannot be read: {error}.") from error
        self._key, self._value = self._column(key), self._column(value)

    def _column(self, name: str) -> int | None:
        """Its number. Raises BadRequest."""
        if not name:
            return None
        if name not in self._header:
            raise BadRequest(f"There is no column {name!r}; the first line has {', '.join(self._header) or 'none'}.")
        return self._header.index(name)

    def numbers(self) -> Iterator[int]:
        """The last lines of the rows that were given, in order."""
        while self._numbers:
            yield self._numbers.popleft()

    def __iter__(self) -> Iterator[list[Item]]:
        window: list[Item] = []
        while True:
            try:
                row = next(self._reader)
                if not row:
                    continue
                window.append(self._record(row))
            except StopIteration:
                break
            except csv.Error as error:
                window.append(BadRequest(f"The row cannot be read: {error}."))
            except TkError as error:
                window.append(error)
            self._numbers.append(self._reader.line_num)
            if len(window) == WINDOW:
                yield window
                window = []
        if window:
            yield window

    def _record(self, row: list[str]) -> Record:
        if len(row) != len(self._header):
            raise BadRequest(f"The row has {len(row)} fields, the first line {len(self._header)}.")
        try:
            value = to_bytes(row[self._value] if self._value is not None else dict(zip(self._header, row, strict=True)))
            key = None if self._key is None else row[self._key].encode()
        except (UnicodeEncodeError, TkError) as error:
            raise BadEncoding from error
        record = Record(self._topic, value, key)
        check(record)
        return record
