"""A request with many records: NDJSON, a JSON array, or lines of text, answered record by record or by its counts."""

import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from typing import IO, Any

import msgspec

from tk import lines, metrics, topics, transactions
from tk import request as requests
from tk.conf import settings
from tk.errors import (
    BadRequest,
    BrokerRefused,
    InvalidRecord,
    MissingMessage,
    NotSent,
    TkError,
    TooLarge,
    UnsupportedMedia,
)
from tk.pipeline import Alike, Flight, Outcome, Telling, Window, sending
from tk.producer import misplaced
from tk.record import Receipt, check_topic

_encoder = msgspec.json.Encoder()

IN_MEMORY = 1 << 20  # bytes of answers or of an atomic batch; more goes to the disk


class Plan(msgspec.Struct, frozen=True):
    """What a request asks for. split, parse: how its body is read, see tk.lines."""

    topic: str
    split: lines.Split
    parse: lines.Parse
    summary: bool
    atomic: bool

    @property
    def telling(self) -> Telling:
        return "counts" if self.summary else "receipts"


def plan(query: bytes, content_type: str, content_encoding: str) -> Plan:
    """Read what a request for a batch says beside its body. Raises BadRequest."""
    requests.refuse_encoding(content_encoding)
    kind = requests.media_type(content_type)
    fields = requests.pairs(query, {"topic", "lines", "summary", "atomic"})
    flags = {name: _flag(name, fields.get(name, "0")) for name in ("lines", "summary", "atomic")}
    split: lines.Split
    parse: lines.Parse
    if kind == requests.NDJSON and not flags["lines"]:
        split, parse = lines.lines, lines.objects
    elif kind == requests.JSON and not flags["lines"]:
        split, parse = lines.elements, lines.objects
    elif kind == "text/plain" and flags["lines"]:
        split, parse = lines.lines, lines.texts
    else:
        raise UnsupportedMedia("A batch is application/x-ndjson, a JSON array, or text/plain with ?lines=1.")
    topic = fields.get("topic", settings.TOPIC)
    check_topic(topic)
    return Plan(topic, split, parse, flags["summary"], flags["atomic"])


def _flag(name: str, value: str) -> bool:
    if value not in {"0", "1"}:
        raise BadRequest(f"{name} is 1 or 0.")
    return value == "1"


class Summary:
    """The counts of a batch. cut: why the rest of the body was not read."""

    def __init__(self) -> None:
        self.records = 0
        self.codes: Counter[str] = Counter()
        self.cut: TkError | None = None

    def add(self, flight: Flight) -> None:
        self.records += flight.size
        self.codes.update(error.code for error in flight.errors)

    def as_dict(self) -> dict[str, Any]:
        failed = self.codes.total()
        told: dict[str, Any] = {"records": self.records, "produced": self.records - failed, "failed": failed}
        if self.codes:
            told["codes"] = dict(self.codes)
        if self.cut is not None:
            told |= {"code": self.cut.code, "error": str(self.cut)}
        return told


def produce(plan: Plan, pieces: Iterable[bytes]) -> Iterable[bytes]:
    """Send the records of a body that arrives in pieces; give the answer, in pieces too.

    An answer waits for the request's end: a client that does not read while it writes would otherwise stop us for good.
    Raises TkError where nothing at all was sent.
    """
    topics.get(plan.topic)  # a broker that is down, or a topic that is not there, is the whole request's answer
    summary = Summary()
    with ExitStack() as stack:
        answer = stack.enter_context(tempfile.SpooledTemporaryFile(IN_MEMORY))
        if plan.atomic:
            _atomic(plan, pieces, summary, answer)
        else:
            _answer(plan, sending(_bounded(plan, pieces, summary), telling=plan.telling), summary, answer)
        stack.pop_all()
    metrics.observe_records(summary.records, summary.codes)
    answer.seek(0)
    return _Emptied(answer)


class _Emptied:
    """A file's pieces; it is closed at their end, or by who takes no more."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.close = file.close

    def __iter__(self) -> Iterator[bytes]:
        with self._file:
            while piece := self._file.read(lines.PIECE):
                yield piece


def _answer(plan: Plan, sent: Iterator[Flight], summary: Summary, answer: IO[bytes]) -> None:
    for flight in sent:
        summary.add(flight)
        answer.write(_encoder.encode_lines(map(_told, flight.outcomes)))
    if not summary.records:
        raise summary.cut or MissingMessage("There is no record in the body.")
    told = summary.as_dict()
    answer.write(_encoder.encode(told if plan.summary else {"summary": told}) + b"\n")


def _told(outcome: Outcome) -> Receipt | dict[str, str]:
    return outcome if isinstance(outcome, Receipt) else {"code": outcome.code, "error": str(outcome)}


def _bounded(plan: Plan, pieces: Iterable[bytes], summary: Summary) -> Iterator[Window]:
    """The body's records, within the limits; where it breaks off, `summary.cut` says why, and what came is sent."""
    records = 0
    try:
        for window in lines.windows(_counted(pieces, settings.MAX_BATCH_BYTES), plan.split, plan.parse, plan.topic):
            left = settings.MAX_BATCH_RECORDS - records
            records += len(window)
            if len(window) > left:
                yield window.first(left) if isinstance(window, Alike) else window[:left]
                raise TooLarge(f"A batch has at most {settings.MAX_BATCH_RECORDS} records; the rest was not read.")
            yield window
    except TkError as error:
        summary.cut = error


def _counted(pieces: Iterable[bytes], limit: int) -> Iterator[bytes]:
    size = 0
    for piece in pieces:
        size += len(piece)
        if size > limit:
            raise requests.too_large(limit)
        yield piece


def _atomic(plan: Plan, pieces: Iterable[bytes], summary: Summary, answer: IO[bytes]) -> None:
    """All or none: the batch is laid down and read through before the transaction begins, for while one is open its
    topics' readers wait."""
    with tempfile.SpooledTemporaryFile(IN_MEMORY) as body:
        _validate(plan, _kept(_counted(pieces, settings.MAX_ATOMIC_BYTES), body))
        body.seek(0)
        windows = lines.windows(iter(lambda: body.read(lines.PIECE), b""), plan.split, plan.parse, plan.topic)
        with transactions.pool.transaction() as through:
            _answer(plan, _sound(sending(windows, through, plan.telling)), summary, answer)


def _kept(pieces: Iterable[bytes], file: IO[bytes]) -> Iterator[bytes]:
    for piece in pieces:
        file.write(piece)
        yield piece


def _validate(plan: Plan, pieces: Iterator[bytes]) -> None:
    """Raise the first record's error, with its number."""
    number = 0
    for window in lines.windows(pieces, plan.split, plan.parse, plan.topic):
        topic = topics.get(plan.topic)
        if isinstance(window, Alike):
            number += len(window)
            continue
        for item in window:
            number += 1
            error = item if isinstance(item, TkError) else misplaced(item, topic)
            if error is not None:
                raise type(error)(f"Record {number}: {error} Nothing was sent.")
    if not number:
        raise MissingMessage("There is no record in the body.")


def _sound(sent: Iterator[Flight]) -> Iterator[Flight]:
    """The flights of a transaction; a record that failed ends it."""
    for flight in sent:
        for error in flight.errors:
            if isinstance(error, InvalidRecord | BrokerRefused):
                raise error
            raise NotSent(f"The transaction was aborted and nothing of it is seen: {error}") from error
        yield flight
