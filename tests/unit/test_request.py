"""What strangers send: read strictly, refused with a code, never a crash."""

import json
from io import BytesIO
from urllib.parse import urlencode

import pytest
from django.test import RequestFactory
from hypothesis import given
from hypothesis import strategies as st

from tk import errors
from tk.body import Body
from tk.errors import BadRequest
from tk.record import EVENT_ID_HEADER, check
from tk.request import FORM, JSON, read


def parse(query: str = "", kind: str = "", body: bytes = b"", encoding: str = ""):
    record = read(query.encode(), kind, encoding, lambda: body)
    check(record)
    return record


def test_the_tutorials_request():
    record = parse("message=hello")
    assert (record.topic, record.value, record.key, record.headers) == ("sample-topic", b"hello", None, ())


def test_everything_that_can_be_said_in_a_query():
    query = urlencode(
        {
            "message": "grüße 🎉",
            "topic": "orders",
            "key": "k1",
            "partition": "2",
            "timestamp": "1700000000000",
            "headers": '{"a": "b", "none": null}',
        }
    )
    record = parse(query)
    assert record.value == "grüße 🎉".encode()
    assert (record.topic, record.key, record.partition, record.timestamp) == ("orders", b"k1", 2, 1_700_000_000_000)
    assert record.headers == (("a", b"b"), ("none", None))


@pytest.mark.parametrize(
    ("kind", "body", "value"),
    [
        (FORM, b"message=a%20b", b"a b"),
        (f"{FORM}; charset=UTF-8", b"message=a+b", b"a b"),
        (JSON, b'{"message": "x\\ny"}', b"x\ny"),
        (JSON, b'{"message": {"id": 1}}', b'{"id":1}'),
        (JSON, b'{"message": null, "key": "k"}', None),
        (JSON, b'{"message": "AAH/", "encoding": "base64"}', b"\x00\x01\xff"),
        ("text/plain", "ü".encode(), "ü".encode()),
        ("application/octet-stream", b"\x00\xff", b"\x00\xff"),
    ],
)
def test_bodies(kind: str, body: bytes, value: bytes | None):
    assert parse(kind=kind, body=body).value == value


@pytest.mark.parametrize(
    ("query", "kind", "body", "encoding", "error"),
    [
        ("", "", b"", "", errors.MissingMessage),
        ("message=", "", b"", "", errors.MissingMessage),
        ("message=%ff", "", b"", "", errors.BadEncoding),
        ("message=a%00b", "", b"", "", errors.BadEncoding),
        ("message=a&key=%00", "", b"", "", errors.BadEncoding),
        ("message=a" + "&" * 50, "", b"", "", errors.BadRequest),
        ("message=a&message=b", "", b"", "", errors.BadRequest),
        ("message=a&colour=b", "", b"", "", errors.BadRequest),
        ("message=a&topic=..", "", b"", "", errors.InvalidTopic),
        ("message=a&topic=a/b", "", b"", "", errors.InvalidTopic),
        ("message=a&topic=" + "a" * 250, "", b"", "", errors.InvalidTopic),
        ("message=a&partition=x", "", b"", "", errors.InvalidPartition),
        ("message=a&partition=-1", "", b"", "", errors.InvalidPartition),
        ("message=a&partition=" + "9" * 5000, "", b"", "", errors.InvalidPartition),
        ("message=a&partition=%D9%A1", "", b"", "", errors.InvalidPartition),  # an Arabic digit
        ("message=a&timestamp=0", "", b"", "", errors.InvalidTimestamp),
        ("message=a&timestamp=9999999999999999999", "", b"", "", errors.InvalidTimestamp),
        ("message=a&headers=[1]", "", b"", "", errors.InvalidHeader),
        ("message=a&headers={", "", b"", "", errors.BadRequest),
        ("message=a&headers=" + "[" * 100_000, "", b"", "", errors.BadRequest),
        (urlencode({"message": "a", "headers": json.dumps({EVENT_ID_HEADER: "x"})}), "", b"", "", errors.InvalidHeader),
        (urlencode({"message": "a", "headers": json.dumps({"a\r\nb": "x"})}), "", b"", "", errors.InvalidHeader),
        (urlencode({"message": "a", "headers": json.dumps({"a": "x" * 40_000})}), "", b"", "", errors.InvalidHeader),
        (
            urlencode({"message": "a", "headers": json.dumps({EVENT_ID_HEADER.upper(): "x"})}),
            "",
            b"",
            "",
            errors.InvalidHeader,
        ),
        ("message=a&key=" + "k" * 40_000, "", b"", "", errors.InvalidKey),
        ("", JSON, b"", "", errors.MissingMessage),
        ("", JSON, b"[]", "", errors.BadRequest),
        ("", JSON, b"{", "", errors.BadRequest),
        ("", JSON, b'{"a":' * 100_000, "", errors.BadRequest),
        ("", JSON, b"\xff", "", errors.BadEncoding),
        ("", JSON, b'{"message": "a\\u0000b"}', "", errors.BadEncoding),
        ("", JSON, b'{"message": "\\ud800"}', "", errors.BadRequest),
        ("", JSON, b'{"message": null}', "", errors.MissingMessage),
        ("", JSON, b'{"message": "!", "encoding": "base64"}', "", errors.BadEncoding),
        ("", JSON, b'{"message": "aaaa", "encoding": "gzip"}', "", errors.InvalidRecord),
        ("", JSON, b'{"message": "a", "partition": true}', "", errors.InvalidPartition),
        ("", JSON, b'{"message": "a", "partition": -1}', "", errors.InvalidPartition),
        ("", JSON, b'{"message": "a", "partition": 2147483648}', "", errors.InvalidPartition),
        ("", JSON, b'{"message": "a", "partition": 1.5}', "", errors.InvalidPartition),
        ("", JSON, b'{"message": NaN}', "", errors.BadRequest),
        ("", JSON, b'{"message": "a", "key": 7}', "", errors.InvalidKey),
        ("", JSON, b'{"message": "a", "topic": 7}', "", errors.InvalidTopic),
        ("", "text/plain", b"\xff", "", errors.BadEncoding),
        ("message=a", "text/plain", b"b", "", errors.BadRequest),
        ("", "text/plain", b"a\0", "", errors.BadEncoding),
        ("", "text/plain", b"", "", errors.MissingMessage),
        ("", "text/plain; charset=latin-1", b"a", "", errors.UnsupportedMedia),
        ("", "image/png", b"a", "", errors.UnsupportedMedia),
        ("", "text/plain", b"a", "gzip", errors.UnsupportedMedia),
        ("", "text/plain", b"a" * 1_048_577, "", errors.TooLarge),
    ],
)
def test_bad_input(query: str, kind: str, body: bytes, encoding: str, error: type[errors.TkError]):
    with pytest.raises(error) as raised:
        parse(query, kind, body, encoding)
    assert 400 <= raised.value.status < 500
    assert raised.value.code


def test_a_raw_type_without_a_body_is_no_body():
    assert parse("message=a", "text/plain").value == b"a"


def test_a_message_of_the_largest_size_is_taken():
    assert len(parse(kind="text/plain", body=b"a" * 1_048_576).value) == 1_048_576


KINDS = st.sampled_from(["", FORM, JSON, "text/plain", "application/octet-stream", "text/plain; charset=x", "x/y"])


@given(st.binary(max_size=200), KINDS, st.binary(max_size=400))
def test_no_bytes_crash_the_parser(query: bytes, kind: str, body: bytes):
    try:
        check(read(query, kind, "", lambda: body))
    except errors.TkError as error:
        assert 400 <= error.status < 500


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)
FIELDS = st.sampled_from(["message", "topic", "key", "partition", "headers", "timestamp", "encoding"])


@given(st.dictionaries(FIELDS, JSON_VALUES))
def test_no_json_crashes_the_parser(fields: dict[str, object]):
    body = json.dumps(fields).encode()
    try:
        check(read(b"", JSON, "", lambda: body))
    except errors.TkError as error:
        assert 400 <= error.status < 500


@pytest.mark.parametrize("kind", ["text/plain; charset*=xyz''%41", "text/plain; charset*=\0''%41"])
def test_a_content_type_that_cannot_be_read(kind):
    with pytest.raises(errors.UnsupportedMedia):
        read(b"", kind, "", lambda: b"hello")


def test_half_a_body_is_none():
    """As WSGI servers give what a client had sent before it went away: short, and without an error."""
    half = RequestFactory().request(**{"REQUEST_METHOD": "POST", "CONTENT_LENGTH": "9", "wsgi.input": BytesIO(b"half")})
    with pytest.raises(BadRequest, match="whole"):
        Body(half).whole()
