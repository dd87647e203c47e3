"""The readers of strangers' bytes, each as it is called: what it reads it checks, what it refuses has a code."""

import json
import random
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from io import BytesIO, TextIOWrapper
from itertools import chain
from typing import Any
from unittest import mock

import msgspec
from confluent_kafka import Message
from django.core.exceptions import DisallowedHost
from django.http import QueryDict
from django.test import RequestFactory

from tests.sink_contract import PLACE
from tk import access, batch, idempotency, lines, tracing
from tk.answer import Answer, wants_json
from tk.errors import BadRequest, TkError
from tk.record import EVENT_ID_HEADER, Record, Text, check, dump_headers, load_headers
from tk.request import read
from tk.table import Rows
from tkcons import deadletters, repeats
from tkcons.masking import Mask
from tkcons.models import DeadLetter
from tkcons.panel.deadletters import FindForm
from tkcons.panel.groups import MoveForm
from tkcons.panel.payload import payload
from tkcons.panel.produce import ProduceForm
from tkcons.panel.topics import LookForm, TopicForm
from tkcons.received import decoder
from tkcons.sinks import lines as written
from tkcons.sinks.base import Batch, Claim
from tkcons.viewer import cursor
from tkcons.viewer.present import present, whole
from tkcons.viewer.query import Form, Query
from tkcons.viewer.rows import VALUE, text_of
from tkrest import bodies, consumers, media
from tkrest import views as rest_views
from tkrest.errors import BadRequest as BadRestRequest
from tkrest.errors import FormatMismatch, InvalidConsumer, NotAcceptable, Unprocessable, UnsupportedFormat
from tkrest.formats import to_record

TOPIC = "sample-topic"


def refused(error: TkError) -> None:
    assert 400 <= error.status < 500
    assert error.code
    str(error).encode()  # it can be answered


def one(query: bytes = b"", kind: str = "", encoding: str = "", body: bytes = b"") -> None:
    """A request for a single message."""
    try:
        made = read(query, kind, encoding, lambda: body)
        check(made)
        assert isinstance(made, Record)
    except BadRequest as error:
        refused(error)


def pieces(body: bytes) -> Iterable[bytes]:
    """As a client may send it: in pieces of any length, the same ones for the same body."""
    draw, at = random.Random(body), 0
    while at < len(body):
        length = draw.choice((1, 2, 7, 50, len(body)))
        yield body[at : at + length]
        at += length


def many(split: lines.Split, parse: lines.Parse) -> Callable[[bytes], None]:
    """A body of many records: each is a record or has its error, however it arrives."""

    def windows(arriving: Iterable[bytes]) -> list[Any]:
        found: list[Any] = []
        try:
            found += chain.from_iterable(lines.windows(arriving, split, parse, TOPIC))
        except BadRequest as error:
            refused(error)
            found.append("broken off")
        return found

    def attempt(body: bytes) -> None:
        found = windows(pieces(body))
        for item in found:
            if isinstance(item, TkError):
                refused(item)
            elif isinstance(item, Record | Text):
                check(_same(item))
        assert list(map(_same, found)) == list(map(_same, windows([body])))

    return attempt


def _same(item: Any) -> Any:
    """For comparing: an error's code; a line, which may be its value or its text alone, as a record."""
    if isinstance(item, bytes):
        return Record(TOPIC, item)
    if isinstance(item, Text):
        return item.record(TOPIC)
    return item.code if isinstance(item, TkError) else item


def batch_address(case: bytes) -> None:
    query, _, kind = case.partition(b"|")
    try:
        batch.plan(query, kind.decode("latin-1"), "")
    except BadRequest as error:
        refused(error)


def place(case: bytes) -> None:
    """Last-Event-ID, and `after` and `before` in addresses."""
    try:
        offsets = cursor.load(case.decode("latin-1"))
    except BadRequest as error:
        refused(error)
    else:
        assert cursor.load(cursor.dump(offsets)) == offsets


def search(case: bytes) -> None:
    try:
        query = Form(QueryDict(case)).query()
    except BadRequest as error:
        refused(error)
    else:
        assert isinstance(query, Query)
        str(query.condition())
        moment(query.since)
        moment(query.until)


def produce_form(case: bytes) -> None:
    form = ProduceForm(QueryDict(case))
    if form.is_valid():
        try:
            check(form.record())
        except BadRequest as error:
            refused(error)


def look_form(case: bytes) -> None:
    form = LookForm(QueryDict(case))
    if form.is_valid():
        moment(form.where()["at"])


def find_form(case: bytes) -> None:
    """Dead letters: what is looked for can be asked of a database."""
    form = FindForm(QueryDict(case))
    if form.is_valid():
        wanted = form.wanted()
        for at in (wanted["since"], wanted["until"], (wanted["before"] or [None])[0]):
            moment(at)
        assert "\0" not in str([wanted["text"], *(wanted["before"] or ())[1:]])


def move_form(case: bytes) -> None:
    form = MoveForm(QueryDict(case), topics=["orders"])
    if form.is_valid():
        form.told().encode()
        if isinstance(form.target, datetime):
            moment(form.target)
        else:
            assert form.target in {"earliest", "latest"} or 0 <= form.target < 2**63


def topic_form(case: bytes) -> None:
    form = TopicForm(QueryDict(case))
    if form.is_valid():
        assert not any("\0" in str(value) for value in form.cleaned_data.values())


def moment(at: datetime | None) -> None:
    """It has a place in UTC, and one among Kafka's times."""
    if at is not None:
        assert abs(int(at.astimezone(UTC).timestamp() * 1000)) < 2**63


def rest(kind: type[Any]) -> Callable[[bytes], None]:
    """A body of the REST Proxy."""

    def attempt(case: bytes) -> None:
        request = RequestFactory().generic("POST", "/", case, "application/json")
        try:
            found = bodies.read(request, kind)
            for record in getattr(found, "records", ()):
                check(to_record(record, TOPIC, None))
            for place in getattr(found, "offsets", ()):
                assert 0 <= consumers._offset(place.offset) < 2**63 - 1
            if isinstance(found, bodies.Consumer):
                consumers._options(found)
        except (
            BadRestRequest,
            InvalidConsumer,
            Unprocessable,
            msgspec.MsgspecError,
        ) as error:  # the last one: InvalidPayload, of a record
            str(error).encode()
        except BadRequest as error:
            refused(error)

    return attempt


def rest_types(case: bytes) -> None:
    text = case.decode("latin-1")
    request = RequestFactory().generic("POST", "/", b"", text, headers={"accept": text})
    for look in (media.embedded_in, media.for_answer, lambda request: media.for_records(request, media.JSON)):
        try:
            assert look(request).isascii()
        except (UnsupportedFormat, NotAcceptable, FormatMismatch) as error:
            str(error).encode()


def rest_numbers(case: bytes) -> None:
    request = RequestFactory().get("/", QUERY_STRING=case.decode("latin-1"))
    for name in ("timeout", "max_bytes"):
        try:
            found = rest_views._natural(request, name)
            assert found is None or 0 < found < 10**12
        except BadRestRequest as error:
            str(error).encode()


def table(case: bytes) -> None:
    """CSV for manage.py produce: each row is a record or has its error."""
    text = TextIOWrapper(BytesIO(case), encoding="utf-8-sig", errors="surrogateescape", newline="")
    try:
        for item in chain.from_iterable(Rows(text, TOPIC, "id")):
            (refused if isinstance(item, TkError) else check)(item)
    except BadRequest as error:
        assert error.code  # told on standard error, which takes what is no UTF-8


def who(case: bytes) -> None:
    """Headers that say who asks, from where and for what."""
    text = case.decode("latin-1")
    names = ("HTTP_AUTHORIZATION", "HTTP_ORIGIN", "HTTP_SEC_FETCH_SITE", "HTTP_ACCEPT", "REMOTE_ADDR", "HTTP_HOST")
    for name in names:
        request = RequestFactory().get("/", **{name: text})
        try:
            access.identify(request)
        except TkError as error:
            refused(error)
        except DisallowedHost:
            continue
        wants_json(text)


def idempotency_key(case: bytes) -> None:
    """It is refused before a database is asked, or is one that every database stores."""
    name = idempotency.Name("somebody", "POST", "/tkprod", case.decode("latin-1"))
    with mock.patch.object(idempotency, "_claim", return_value=Answer(200, "", b"")) as claim:
        try:
            idempotency.once(name, Record(TOPIC, b"x"), lambda receipt: Answer(200, "", b""), "default")
        except BadRequest as error:
            refused(error)
            assert not claim.called
        else:
            assert name.key.isascii()
            assert name.key.isprintable()


def traced(case: bytes) -> None:
    """A message's headers as those of a trace."""
    pairs = [(name, case) for name in ("traceparent", "tracestate", "baggage")]
    with tracing.processing("group", [("orders", [Message(topic="orders", value=b"", headers=pairs)])]):
        pass


class Order(msgspec.Struct):
    id: int
    name: str = ""


DECODERS = [decoder(wanted) for wanted in (bytes, str, dict, list[Order], Order, Any)]


def value(case: bytes) -> None:
    """A message's value: an ordinary exception makes a dead letter; anything else would end the process."""
    for decode in DECODERS:
        try:
            decode(Message(topic="orders", partition=0, offset=0, value=case))
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            continue


def masked(case: bytes) -> None:
    mask = Mask(("card", "customer.email"))
    assert b"4111" not in (mask.data(b'{"card": "4111", "x": ' + case + b"}") or b"")
    shown = text_of(mask.data(case) or b"", len(case), VALUE)
    shown.text.encode()


def shown(case: bytes) -> None:
    """A value on its page: folded JSON, text or hex, which a page can hold."""
    for everything in (False, True):
        found = present(case, everything=everything)
        (found.text + (found.html or "")).encode()
    row = DeadLetter(key=case[:9], value=case, headers=dump_headers((("a", case),)))
    for found in (payload(row), whole(row, everything=True)):
        for text in (found.key, found.value, found.headers[0][1]):
            text.text.encode()


def message(case: bytes) -> Message:
    """key|value|name|header's value; an empty part is none."""
    key, value, name, header = (case.split(b"|", 3) + [b""] * 3)[:4]
    pairs = [(name.decode(errors="replace"), header or None)] * (len(name) % 3)
    return Message(topic="orders", partition=3, offset=7, key=key or None, value=value or None, headers=pairs)


def kafka(case: bytes) -> None:
    """A message is one line, whatever is in it, and its headers come back as they were stored."""
    given = message(case)
    text = written.lines([given]).decode()
    assert text.endswith(")<br>\n")
    assert text[:-1].isprintable()
    assert "<" not in text[: -len("<br>\n")]
    (line, rest) = written.json_lines([given]).split(b"\n")
    assert rest == b""
    row = json.loads(line)
    assert (row["topic"], row["partition"], row["offset"]) == ("orders", 3, 7)
    pairs = tuple(given.headers() or ())
    assert load_headers(dump_headers(pairs)) == pairs
    letter = deadletters.make("group", PLACE, given, ValueError(text_in(case)), 1)
    (letter.cause + letter.traceback).encode()
    assert "\0" not in letter.cause + letter.traceback
    assert all(value is None or name.encode() for name, value in deadletters._headers(letter))


def text_in(case: bytes) -> str:
    """What a handler's error may cite."""
    try:
        return str(json.loads(case))
    except (ValueError, RecursionError):
        return case.decode("utf-8", "surrogateescape")


def event_id(case: bytes) -> None:
    """It is known or left alone."""
    given = Message(topic="orders", partition=0, offset=5, value=b"x", headers=[("a", None), (EVENT_ID_HEADER, case)])
    found = repeats.find([Batch(PLACE, Claim(0, 5), [given], 6)], lambda events: set())
    assert len(found.batches[0].messages) == 1
    for event in found.events:
        assert event.event_id.isascii()
        assert 1 <= len(event.event_id) <= 100
