"""Bodies with many records, split while they arrive: the same however they are cut into pieces."""

import json
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tk import lines
from tk.errors import BadRequest, InvalidHeader, TkError, TooLarge
from tk.pipeline import Texts, Values, Window
from tk.record import EVENT_ID_HEADER, Record

CUTS = st.lists(st.integers(0, 200), max_size=12)


def cut(body: bytes, cuts: list[int]) -> list[bytes]:
    edges = [0, *sorted(min(each, len(body)) for each in cuts), len(body)]
    return [body[start:end] for start, end in pairwise(edges) if start < end]


def found(split, body: bytes, cuts=(), limit: int = 1_000) -> list[bytes | TkError]:
    return [each for some in split(cut(body, list(cuts)), limit) for each in some]


@given(st.lists(st.sampled_from([b"a", b"", b"\n", "ü".encode(), b"\r\n", b"long" * 9])).map(b"".join), CUTS)
def test_lines_however_they_arrive(body: bytes, cuts: list[int]):
    assert found(lines.lines, body, cuts) == (body.removesuffix(b"\n").split(b"\n") if body else [])


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)


SHAPES = st.fixed_dictionaries({"ensure_ascii": st.booleans(), "indent": st.sampled_from([None, 1])})


@given(st.lists(JSON, max_size=6), SHAPES, CUTS)
def test_elements_however_they_arrive(values: list[object], shape: dict[str, object], cuts: list[int]):
    body = json.dumps(values, **shape).encode()
    assert [json.loads(each) for each in found(lines.elements, b" \n" + body + b"\n ", cuts)] == values


@pytest.mark.parametrize(
    ("body", "before"),
    [
        (b"", 0),
        (b"[", 0),
        (b"[1", 0),
        (b"[1,2", 1),
        (b'[1,"]', 1),
        (b"[1}", 1),
        (b"[1]]", 1),
        (b"[1] x", 1),
        (b"[1],[2]", 1),
        (b"{}", 0),
        (b"x[1]", 0),
    ],
)
@given(cuts=CUTS)
def test_a_broken_array_is_told_after_what_came_before(body: bytes, before: int, cuts: list[int]):
    split, got = lines.elements(cut(body, cuts), 1_000), []
    with pytest.raises(BadRequest):
        got.extend(each for some in split for each in some)
    assert len(got) == before


@given(CUTS)
def test_a_record_over_the_limit_fails_alone_and_is_not_held(cuts: list[int]):
    long = b"x" * 150
    assert [type(each) for each in found(lines.lines, b"a\n" + long + b"\nb\n", cuts, 100)] == [bytes, TooLarge, bytes]
    array = b'["a","' + long + b'","b"]'
    assert [type(each) for each in found(lines.elements, array, cuts, 100)] == [bytes, TooLarge, bytes]


def test_what_is_too_long_is_let_go():
    array = lines._Array(100)
    array.feed(b'["')
    for _ in range(1_000):
        assert array.feed(b"x" * 1_000) == []
        assert len(array._buffer) <= 2_000


def test_empty_elements():
    assert found(lines.elements, b"[]") == []
    assert [type(each) for each in found(lines.elements, b"[,1,]")] == [BadRequest, bytes, BadRequest]


def told(window: Window) -> list[object]:
    if isinstance(window, Texts):
        return [text.record(window.topic) for text in window]
    return [item.code if isinstance(item, TkError) else item for item in window]


def test_lines_of_text():
    window = [b"a", b"", b"\xff", b"nul\0", "ü".encode(), b"windows\r", b"x" * 1_048_577, TooLarge()]
    assert told(lines.texts(window, "t")) == [
        Record("t", b"a"),
        "missing_message",
        "bad_encoding",
        "bad_encoding",
        Record("t", "ü".encode()),
        Record("t", b"windows"),
        "too_large",
        "too_large",
    ]
    plain = lines.texts([b"a", b"b"], "t")
    assert isinstance(plain, Values)
    assert (plain.topic, list(plain)) == ("t", [b"a", b"b"])


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ('{"value":"a"}', Record("t", b"a")),
        ('{"value":"a","key":"","headers":{}}', Record("t", b"a", b"")),
        (
            '{"value":"ü","key":"k","headers":{"a":"b","n":null}}',
            Record("t", "ü".encode(), b"k", (("a", b"b"), ("n", None))),
        ),
        ('{"value":"a","headers":[["a","b"],["a","c"]]}', Record("t", b"a", None, (("a", b"b"), ("a", b"c")))),
        ('{"value":{"id":1},"partition":3,"timestamp":5}', Record("t", b'{"id":1}', None, (), 3, 5)),
        ('{"value":0}', Record("t", b"0")),
        ('{"value":null,"key":"k"}', Record("t", None, b"k")),
        ('{"value":"AP8=","encoding":"base64"}', Record("t", b"\0\xff")),
        ("", "missing_message"),
        ("{}", "missing_message"),
        ('{"value":""}', "missing_message"),
        ('{"value":null}', "missing_message"),
        ('{"value":"a\\u0000"}', "bad_encoding"),
        ('{"value":"a","topic":"other"}', "bad_request"),
        ('{"value":"a"', "bad_request"),
        ("[" * 10_000, "bad_request"),
        ('{"value":"a","key":1}', "invalid_key"),
        ('{"value":"a","headers":{"a":1}}', "invalid_header"),
        ('{"value":"a","headers":{"a\\nb":"1"}}', "invalid_header"),
        ('{"value":"a","headers":{"' + EVENT_ID_HEADER.upper() + '":"1"}}', "invalid_header"),
        ('{"value":"a","partition":-1}', "invalid_partition"),
        ('{"value":"a","partition":true}', "invalid_partition"),
        ('{"value":"a","timestamp":0}', "invalid_timestamp"),
        ('{"value":"a","key":"' + "k" * 32_769 + '"}', "invalid_key"),
        ('{"value":"a","headers":{"a":"' + "k" * 16_384 + '"}}', "invalid_header"),
        ('{"value":"' + "v" * 1_048_577 + '"}', "too_large"),
    ],
)
def test_a_record_in_json(line: str, expected: object):
    assert told(lines.objects([line.encode()], "t")) == [expected]


@given(st.dictionaries(st.sampled_from(sorted(lines.FIELDS)), JSON))
def test_the_quick_reading_says_what_the_slow_one_says(fields: dict[str, object]):
    line = json.dumps(fields).encode()
    assert told(lines.objects([line], "t")) == told([lines._object(line, "t")])


@given(st.binary(max_size=100))
def test_no_bytes_crash_the_reading(line: bytes):
    for parse in (lines.texts, lines.objects):
        window = parse([line], "t")
        for item in () if isinstance(window, Values | Texts) else window:
            assert isinstance(item, Record) or 400 <= item.status < 500


LINE = (
    b'{"value":1}',
    b'{"value":"a","key":"k"}',
    b'{"value":null,"key":"k"}',
    b'{"value":"a","headers":{"n":null}}',
    b'{"value":"\\u0000"}',
    b'{"value":1}{"value":2}',
    b'{"value":"}',
    b'{"value":{',
    b"}}",
    b"",
    TooLarge(),
)


@given(st.lists(st.sampled_from(LINE), max_size=6))
def test_a_window_is_read_as_its_lines_are(window: list[bytes | TkError]):
    apart = [item for line in window for item in told(lines.objects([line], "t"))]
    assert told(lines.objects(window, "t")) == apart


def test_a_reserved_name_stays_refused():
    bad = f'{{"value":"a","headers":{{"a":"b","{EVENT_ID_HEADER}":"1"}}}}'.encode()
    for _ in range(2):
        (item,) = lines.objects([bad], "t")
        assert isinstance(item, InvalidHeader)
