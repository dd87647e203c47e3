"""Whatever strangers send is read or refused with a code: no crash, no hang, memory in proportion.

FUZZ: cases of each reader (default 200; in CI 2,000, which is more than 10,000 together).
"""

import json
import os
import time
import tracemalloc
from typing import Any
from urllib.parse import quote_plus, urlencode

import msgspec
import pytest
from confluent_kafka import Message
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.sink_contract import PLACE
from tk.errors import BadRequest
from tk.record import EVENT_ID_HEADER, Record, check, dump_headers, load_headers
from tk.request import FORM, JSON, body_limit, read
from tkcons import repeats
from tkcons.received import decoder
from tkcons.sinks.base import Batch, Claim
from tkcons.sinks.lines import json_lines, lines

pytestmark = pytest.mark.timeout(900)

FUZZ = settings(max_examples=int(os.environ.get("FUZZ", "2000" if os.environ.get("CI") else "200")), deadline=None)

anything = st.text() | st.binary().map(lambda data: data.decode("latin-1"))
values: Any = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | anything,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)
names = st.sampled_from(["message", "topic", "key", "partition", "timestamp", "headers", "encoding", "Message", "x"])
telling = st.sampled_from(
    ["", "a", "sample-topic", "base64", "QUI=", "0", "-1", "99999999999999999999", '{"a": "b"}', "["]
)
fields = st.dictionaries(names, telling | values, max_size=5)
kinds = st.sampled_from([FORM, JSON, "text/plain", "application/octet-stream", "application/x-ndjson", "", "a/b"])
queries = st.binary(max_size=60) | st.dictionaries(names, telling | anything, max_size=4).map(
    lambda given: urlencode({name: value.encode("utf-8", "surrogatepass") for name, value in given.items()}).encode()
)
bodies = (
    st.binary(max_size=200)
    | fields.map(lambda given: json.dumps(given).encode())
    | fields.map(lambda given: quote_plus(str(given)).encode())
    | st.lists(fields, max_size=3).map(lambda given: b"\n".join(json.dumps(each).encode() for each in given))
)
headers = st.lists(st.tuples(st.text(), st.none() | st.binary()), max_size=5)


def attempt(query: bytes, kind: str, encoding: str, body: bytes) -> Record | BadRequest:
    try:
        made = read(query, kind, encoding, lambda: body)
        check(made)
    except BadRequest as error:
        assert 400 <= error.status < 500
        assert error.code
        str(error).encode()  # it can be answered
        return error
    return made


@FUZZ
@given(queries, kinds | anything, st.sampled_from(["", "", "", "gzip", "identity"]) | anything, bodies)
def test_a_request_is_a_record_or_a_refusal(query: bytes, kind: str, encoding: str, body: bytes):
    attempt(query, kind, encoding, body)


@FUZZ
@given(fields, st.data())
def test_a_request_that_was_cut_or_changed(given: dict[str, Any], data: st.DataObject):
    """A body that was right, with bytes taken out, put in, or cut off."""
    body = bytearray(json.dumps({"message": "x", **given}).encode())
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.integers(0, len(body)))
        body[place : place + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=3))
    attempt(b"", JSON, "", bytes(body))


HOSTILE = {
    "arrays": (JSON, b'{"message": ' + b"[" * 1_000_000),
    "objects": (JSON, b'{"message": ' + b'{"a":' * 200_000),
    "escapes": (JSON, b'{"message": "' + b"\\u0061" * 150_000 + b'"}'),
    "numbers": (JSON, b'{"message": ' + b"9" * 1_000_000 + b"}"),
    "exponent": (JSON, b'{"message": 1e' + b"9" * 1_000_000 + b"}"),
    "names": (JSON, b"{" + b",".join(b'"%d":1' % number for number in range(100_000)) + b"}"),
    "fields": (FORM, b"&".join([b"a=b"] * 250_000)),
    "percents": (FORM, b"message=" + b"%61" * 300_000),
    "broken percents": (FORM, b"message=" + b"%" * 1_000_000),
    "spaces": (JSON, b" " * 1_000_000),
    "headers": (JSON, b'{"message": "x", "headers": {' + b",".join(b'"%d":"x"' % n for n in range(70_000)) + b"}}"),
    "base64": (JSON, b'{"encoding": "base64", "message": "' + b"A" * 999_999 + b'"}'),
    "content type": (JSON + ";a=" * 20_000, b"{}"),
}


@pytest.mark.parametrize("what", HOSTILE)
def test_a_hostile_body_takes_time_and_memory_in_proportion(what: str):
    kind, body = HOSTILE[what]
    assert len(body) < body_limit()
    tracemalloc.start()
    try:
        began = time.process_time()
        attempt(b"topic=sample-topic", kind, "", body)
        seconds = time.process_time() - began
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert seconds < 5  # of this process's own time; a megabyte takes some hundredths
    assert peak < 40 * len(body) + 10_000_000


@FUZZ
@given(headers)
@example([("", b""), ("a", None), ("a", b"\xff"), ("\0", b"\0")])
def test_headers_come_back_as_they_were_stored(pairs: list[tuple[str, bytes | None]]):
    try:
        text = dump_headers(tuple(pairs))
    except UnicodeEncodeError:
        return  # half a surrogate pair cannot have come from Kafka
    assert load_headers(text) == tuple(pairs)


kafka = st.builds(
    lambda key, value, headers, kind, timestamp: Message(
        topic="orders", partition=3, offset=7, key=key, value=value, headers=headers, timestamp=(kind, timestamp)
    ),
    st.none() | st.binary(),
    st.none() | st.binary(),
    st.lists(st.tuples(st.text(alphabet=st.characters(codec="utf-8")), st.none() | st.binary()), max_size=3),
    st.integers(0, 2),
    st.integers(-1, 2**63 - 1),
)


@FUZZ
@given(kafka)
def test_any_message_is_one_line(message: Message):
    text = lines([message]).decode()
    assert text.endswith(")<br>\n")
    assert text[:-1].isprintable()
    assert "<" not in text[: -len("<br>\n")]
    (one, rest) = json_lines([message]).split(b"\n")
    assert rest == b""
    row = json.loads(one)
    assert (row["topic"], row["partition"], row["offset"]) == ("orders", 3, 7)


class Order(msgspec.Struct):
    id: int
    name: str = ""


DECODERS = [decoder(wanted) for wanted in (bytes, str, dict, list[Order], Order, Any)]


@FUZZ
@given(st.sampled_from(DECODERS), st.none() | st.binary() | values.map(lambda value: json.dumps(value).encode()))
def test_a_value_is_decoded_or_an_ordinary_exception(decode: Any, value: bytes | None):
    """An ordinary one makes a dead letter; anything else would end the process."""
    try:
        decode(Message(topic="orders", partition=0, offset=0, value=value))
    except Exception as error:  # noqa: BLE001
        assert isinstance(error, (msgspec.MsgspecError, UnicodeDecodeError, RecursionError))


@FUZZ
@given(
    st.lists(st.tuples(st.sampled_from([EVENT_ID_HEADER, "x", ""]), st.none() | st.binary(max_size=120)), max_size=4)
)
def test_an_event_id_is_known_or_left_alone(pairs: list[tuple[str, bytes | None]]):
    message = Message(topic="orders", partition=0, offset=5, value=b"x", headers=pairs)
    found = repeats.find([Batch(PLACE, Claim(0, 5), [message], 6)], lambda events: set())
    assert len(found.batches[0].messages) == 1
    for event in found.events:
        assert event.event_id.isascii()
        assert 1 <= len(event.event_id) <= 100
