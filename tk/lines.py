"""Many records in one body: split into lines or array elements while it arrives, each read strictly and apart."""

import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import msgspec

from tk import request as requests
from tk.conf import settings
from tk.errors import BadRequest, MissingMessage, TkError, TooLarge
from tk.pipeline import WINDOW, Item, Texts, Values, Window
from tk.record import Record, Text, check, check_names

PIECE = 262_144  # bytes that are read and split at once

Split = Callable[[Iterable[bytes], int], Iterator[list[bytes | TkError]]]
Parse = Callable[[list[bytes | TkError], str], Window]


def windows(pieces: Iterable[bytes], split: Split, parse: Parse, topic: str) -> Iterator[Window]:
    """The body's records in order, in lists of at most WINDOW."""
    for found in split(pieces, requests.body_limit()):
        for start in range(0, len(found), WINDOW):
            yield parse(found[start : start + WINDOW], topic)


def lines(pieces: Iterable[bytes], limit: int) -> Iterator[list[bytes | TkError]]:
    r"""Split at \n; the last line needs none. A line over `limit` bytes is an error, and is never held whole."""
    held: list[bytes] = []
    size = 0
    for piece in pieces:
        first, newline, others = piece.partition(b"\n")
        size += len(first)
        if size <= limit:
            held.append(first)
        else:
            held.clear()
        if not newline:
            continue
        found: list[bytes | TkError] = [b"".join(held) if size <= limit else _too_long(limit)]
        *whole, last = others.split(b"\n")
        found += whole if len(piece) <= limit else [each if len(each) <= limit else _too_long(limit) for each in whole]
        held, size = [last], len(last)
        yield found
    if size:
        yield [b"".join(held) if size <= limit else _too_long(limit)]


_OUTSIDE = re.compile(rb'["\[\]{},]')
_INSIDE = re.compile(rb'["\\]')


def elements(pieces: Iterable[bytes], limit: int) -> Iterator[list[bytes | TkError]]:
    """Split a JSON array into its elements, still text: a broken element is found when it is read.

    Raises BadRequest where the array itself is broken, after the elements before.
    """
    array = _Array(limit)
    for piece in pieces:
        if found := array.feed(piece):
            yield found
        if array.broken:
            raise BadRequest("The JSON is no array of records, or there is something beside it.")
    if not array.closed:
        raise BadRequest("The JSON array does not end.")


class _Array:
    """Where the scan of an array stands. broken: it cannot go on; closed: the last bracket was seen."""

    def __init__(self, limit: int) -> None:
        self.broken = self.closed = False
        self._limit = limit
        self._buffer = b""  # from the current element on
        self._start = self._at = 0  # where the element begins in it, where the scan stands
        self._depth = 0  # how many brackets are open
        self._text = False  # inside a string
        self._long = False  # the element is over the limit, and its bytes are let go
        self._some = False  # an element has ended

    def feed(self, piece: bytes) -> list[bytes | TkError]:
        """The elements that end in this piece."""
        self._buffer, self._at, self._start = self._buffer[self._start :] + piece, self._at - self._start, 0
        found: list[bytes | TkError] = []
        while not self.broken and (match := (_INSIDE if self._text else _OUTSIDE).search(self._buffer, self._at)):
            sign, self._at = match[0], match.end()
            if self._text:
                self._text = sign == b"\\"
                self._at += self._text  # what follows is escaped
            elif not self._depth:
                self.broken = self.closed or sign != b"[" or bool(self._buffer[self._start : self._at - 1].strip())
                self._depth, self._start = 1, self._at
            elif sign == b'"':
                self._text = True
            elif sign in b"[{":
                self._depth += 1
            else:
                self._end(sign, found)
        if not self.broken:
            self._at = max(self._at, len(self._buffer))  # what was searched is not searched again
        if self.closed and self._buffer[self._start :].strip():
            self.broken = True
        if self.closed or len(self._buffer) - self._start > self._limit:
            self._long, self._start = not self.closed, min(self._at, len(self._buffer))
        return found

    def _end(self, sign: bytes, found: list[bytes | TkError]) -> None:
        self._depth -= sign in b"]}"
        if self._depth and not (self._depth == 1 and sign == b","):
            return
        element = self._buffer[self._start : self._at - 1].strip()
        if element or self._some or self._long or self._depth:  # not so in an empty array
            found.append(_element(element, self._limit, long=self._long))
        self._some, self._long, self._start = True, False, self._at
        self.closed = not self._depth
        self.broken = self.closed and sign != b"]"


def _element(element: bytes, limit: int, *, long: bool) -> bytes | TkError:
    if long or len(element) > limit:
        return _too_long(limit)
    return element or BadRequest("There is nothing between two commas.")


def _too_long(limit: int) -> TooLarge:
    return TooLarge(f"The record is too large: at most {limit} bytes are read.")


def texts(window: list[bytes | TkError], topic: str) -> Window:
    """Each line is a value: text in UTF-8, not empty; \\r at its end belongs to the line's end."""
    try:
        whole = b"\n".join(window)  # type: ignore[arg-type]  # a TypeError says that an error is among them
        if whole.isascii() or whole.decode():
            lengths = list(map(len, window))  # type: ignore[arg-type]
            if min(lengths) and max(lengths) <= settings.MAX_VALUE_BYTES and b"\r" not in whole and b"\0" not in whole:
                return Values(topic, window)  # type: ignore[arg-type]
    except (TypeError, UnicodeDecodeError):
        pass
    return [_text(line, topic) for line in window]


def _text(line: bytes | TkError, topic: str) -> Item:
    if isinstance(line, TkError):
        return line
    try:
        value = line.removesuffix(b"\r")
        if not value:
            raise MissingMessage("The line is empty.")
        requests.text(value)
        record = Record(topic, value)
        check(record)
    except TkError as error:
        return error
    return record


class _Line(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    """The usual shape of a record in JSON; whatever does not fit is read again, slowly, for its error."""

    value: Any
    key: str | None = None
    headers: dict[str, str | None] | None = None
    partition: int | None = None
    timestamp: int | None = None


FIELDS = {"value", "encoding", "key", "headers", "partition", "timestamp"}
_decode = msgspec.json.Decoder(_Line).decode
_decode_text = msgspec.json.Decoder(Text).decode
_encode = msgspec.json.Encoder().encode


def objects(window: list[bytes | TkError], topic: str) -> Window:
    """Each line or element is {"value": ..., "key": ..., "headers": ..., "partition": ..., "timestamp": ...}, or has
    `encoding`: base64."""
    smallest = min(settings.MAX_VALUE_BYTES, settings.MAX_KEY_BYTES, settings.MAX_HEADERS_BYTES)
    return _plain(window, topic, smallest) or [_item(line, topic, smallest) for line in window]


def _item(line: bytes | TkError, topic: str, smallest: int) -> Item:
    plain = _plain([line], topic, smallest)
    if isinstance(plain, Texts):
        return plain[0].record(topic)
    return plain[0] if plain else line if isinstance(line, TkError) else _object(line, topic)


def _plain(window: list[bytes | TkError], topic: str, smallest: int) -> Texts | list[Item]:
    """The records of lines of the usual shape, each so short that its parts are within their limits; none where any of the
    lines needs a closer look."""
    try:
        if b"\\u0000" in b"\n".join(window) or max(map(len, window)) > smallest:  # type: ignore[arg-type]  # see below
            return []
        try:
            texts = Texts(topic, map(_decode_text, window))  # type: ignore[arg-type]
        except msgspec.ValidationError:  # JSON, but there is more than text
            return _records(list(map(_decode, window)), topic)  # type: ignore[arg-type]
        check_names(set().union(*[text.headers for text in texts if text.headers]))
    except (TypeError, ValueError, msgspec.MsgspecError, RecursionError, TkError):
        return []  # a TypeError: an error is among the lines
    return texts


def _records(read: list[_Line], topic: str) -> list[Item]:
    """Raises what `check_names` and `check` raise."""
    records: list[Item] = []
    check_names({name for line in read if line.headers for name in line.headers})
    for line in read:
        value, key, headers = line.value, line.key, line.headers
        value = value.encode() if type(value) is str else b"" if value is None else _encode(value)
        if not value:
            return []  # no message, or a tombstone
        record = Record(
            topic,
            value,
            key if key is None else key.encode(),
            tuple([(name, v if v is None else v.encode()) for name, v in headers.items()]) if headers else (),
            line.partition,
            line.timestamp,
        )
        if line.partition is not None or line.timestamp is not None:
            check(record)
        records.append(record)
    return records


def _object(line: bytes, topic: str) -> Item:
    """The same by the rules of a single message, with its errors."""
    try:
        fields = requests.json_object(line)
        requests.refuse_unknown(fields, FIELDS)
        if "value" in fields:
            fields["message"] = fields.pop("value")
        record = requests.record_of({**fields, "topic": topic}, requests.message_of(fields))
        check(record)
    except TkError as error:
        return error
    return record
