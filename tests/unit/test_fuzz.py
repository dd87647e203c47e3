"""Whatever strangers send is read or refused with a code: no crash, no hang, memory in proportion. See tests.fuzzing."""

import time
import tracemalloc
from collections import deque
from collections.abc import Callable
from contextlib import suppress

import pytest

from tests.fuzzing import TIMES, fuzz
from tests.reading import (
    TOPIC,
    batch_address,
    event_id,
    find_form,
    idempotency_key,
    kafka,
    look_form,
    many,
    masked,
    move_form,
    one,
    place,
    produce_form,
    rest,
    rest_numbers,
    rest_types,
    search,
    shown,
    table,
    topic_form,
    traced,
    value,
    who,
)
from tk import lines
from tk.errors import BadRequest
from tk.request import FORM, JSON, body_limit
from tkcons.viewer import cursor
from tkrest import bodies, media
from tkrest.produce import BODIES

FIELDS = [
    b"message=hello",
    b"message=gr%C3%BC%C3%9Fe+dich&key=k&partition=0&timestamp=1700000000000",
    b"topic=sample-topic&message=QUI%3D&encoding=base64&headers=%7B%22a%22%3A%22b%22%7D",
]
OBJECTS = [
    b'{"message": "hello"}',
    b'{"message": {"a": [1, 2.5, null, true]}, "key": "k", "topic": "sample-topic", "partition": 0}',
    b'{"message": "QUI=", "encoding": "base64", "headers": {"a": "b", "c": null}, "timestamp": 1700000000000}',
    b'{"message": null, "key": "\\u00fc", "headers": [["a", "b"], ["a", "c"]]}',
]
RECORDS = [each.replace(b"message", b"value").replace(b'"topic": "sample-topic", ', b"") for each in OBJECTS]
TYPES = [
    *(b"application/json", b"text/plain; charset=utf-8", b"application/x-www-form-urlencoded", b"application/x-ndjson"),
    *(b"application/octet-stream", b"application/json; charset=\"utf-8\"; a*=utf-8'en'b", b"a/b; q=0.5, */*;q=0.1"),
    *(b"application/vnd.kafka.json.v2+json", b"application/vnd.kafka.binary.v2+json, application/vnd.kafka.v2+json"),
]
FORMS = {
    "produces": (produce_form, [b"topic=a&value=b&headers=a%3A+b%0Ac%3A&repeat=3&partition=0&time=2026-01-01"]),
    "looks": (look_form, [b"partition=0&offset=2&limit=25&before=3", b"time=2026-01-01T00:00:00"]),
    "finds letters": (
        find_form,
        [
            b"group=g&topic=orders&state=waiting&q=text&before=2026-01-01T00:00:00%2B00:00_0a",
            b"since=2026-01-01T00:00&until=2026-02-01T00:00:00Z&zone=Europe/Berlin",
            b"since=0001-01-01T00:00%2B14:00&before=0001-01-01T00:00:00%2B14:00_a",
        ],
    ),
    "moves": (
        move_form,
        [
            *(b"to=offset&offset=3&topic=orders&partition=0", b"to=earliest"),
            *(b"to=time&time=2026-01-01T00:00:00&zone=Asia/Tokyo", b"to=time&time=0001-01-01T00:00%2B14:00"),
        ],
    ),
    "makes a topic": (topic_form, [b"name=a&partitions=3&replication=1&cleanup.policy=compact&retention.ms=60000"]),
}
SEARCHES = [
    b"topic=orders&partition=1&offset=17&group=tkcons.database&topic_id=AAAAAAAAAAAAAAAAAAAAAA",
    b"since=2026-01-01T00:00&until=2026-01-02+00%3A00%3A00&zone=Europe/Berlin",
    b"key=k&header=a%3A+b&text=some+text&before=17",
    *(b"since=0001-01-01T00:00&until=9999-12-31T23:59:59.999999", b"until=0001-01-01T00:00&zone=Asia/Tokyo"),
]
REST = {
    "records in JSON": (BODIES[media.JSON], [b'{"records": [{"value": {"a": 1}, "key": null}, {"value": "x"}]}']),
    "records in base64": (
        BODIES[media.BINARY],
        [b'{"records": [{"value": "QUI=", "partition": 0, "headers": [{"name": "a", "value": "Yg=="}]}]}'],
    ),
    "partitions": (bodies.Partitions, [b'{"partitions": [{"topic": "a", "partition": 0}]}']),
    "offsets": (bodies.Offsets, [b'{"offsets": [{"topic": "a", "partition": 0, "offset": 9, "metadata": "m"}]}']),
    "topics": (bodies.Topics, [b'{"topics": ["a", "b"]}', b'{"topic_pattern": "a.*"}']),
    "consumer": (
        bodies.Consumer,
        [b'{"name": "a", "format": "json", "auto.offset.reset": "earliest", "fetch.min.bytes": "1"}'],
    ),
}
READERS: dict[str, tuple[Callable[[bytes], None], list[bytes]]] = {
    "query": (one, FIELDS),
    "form": (lambda case: one(kind=FORM, body=case), FIELDS),
    "object": (lambda case: one(kind=JSON, body=case), OBJECTS),
    "text": (lambda case: one(kind="text/plain", body=case), [b"hello", "grüße".encode()]),
    "bytes": (lambda case: one(kind="application/octet-stream", body=case), [b"hello", b"\xff\0"]),
    "content type": (lambda case: one(b"message=x", case.decode("latin-1"), "", b"x"), TYPES),
    "content encoding": (lambda case: one(b"message=x", "", case.decode("latin-1")), [b"identity", b"gzip", b" "]),
    "lines of objects": (many(lines.lines, lines.objects), [b"\n".join(RECORDS), b"\r\n".join(RECORDS)]),
    "an array": (many(lines.elements, lines.objects), [b"[" + b", ".join(RECORDS) + b"]", b" [ ] "]),
    "lines of text": (many(lines.lines, lines.texts), [b"one\ntwo\r\n\nthree", "ü\nß".encode()]),
    "address of a batch": (
        batch_address,
        [b"summary=1&topic=sample-topic|application/x-ndjson", b"lines=1|text/plain", b"atomic=1|application/json"],
    ),
    "cursor": (place, [cursor.dump(row).encode() for row in ({}, {1: 5}, {3: 0, 4: 2**40, 900: 17})]),
    "search": (search, SEARCHES),
    **{f"form that {name}": given for name, given in FORMS.items()},
    **{f"REST: {name}": (rest(kind), right) for name, (kind, right) in REST.items()},
    "REST: types": (rest_types, TYPES),
    "REST: numbers": (rest_numbers, [b"timeout=1000&max_bytes=-1", b"max_bytes=1&async=true"]),
    "rows": (table, [b'id,name\r\n1,a\r\n2,"b\nc"\r\n', "\ufeffid\n\nü\n".encode()]),
    "who asks": (who, [b"Basic YTpi", b"http://testserver", b"cross-site", b"[::ffff:127.0.0.1]", b"text/html;q=0.9"]),
    "Idempotency-Key": (idempotency_key, [b"key-1", b"2b1c9d9a-9f0e-4b61-8f0a-6c1f5a1c7e11"]),
    "trace": (traced, [b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", b"a=b,c=d"]),
    "value": (value, [*OBJECTS, b'[{"id": 1, "name": "a"}]', b'{"id": 2}', "grüße".encode()]),
    "masked value": (masked, [b'{"card": 1, "customer": {"email": "e"}}', b'["{\\"card\\": 1}"]', *OBJECTS]),
    "shown value": (shown, [b'{"a": ["\\u00fc", 1.10, "b"]}', b"[[1], [2]]", b"text \xc3\xbc", *OBJECTS]),
    "message": (kafka, [b'key|{"a": 1}|name|header', "ü|\0<b>|n|\xff".encode("latin-1"), b"|||"]),
    "event id": (event_id, [b"2b1c9d9a-9f0e-4b61-8f0a-6c1f5a1c7e11", b"x"]),
}


@pytest.mark.parametrize("reader", READERS)
def test_it_is_read_or_refused(reader: str):
    fuzz(*READERS[reader], TIMES)


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
    in_proportion(lambda: one(b"topic=sample-topic", kind, "", body), len(body))


def streamed(split: lines.Split) -> Callable[[bytes], None]:
    """A body of many records as it is read from the server; nothing is kept of it."""

    def attempt(body: bytes) -> None:
        arriving = (body[at : at + lines.PIECE] for at in range(0, len(body), lines.PIECE))
        with suppress(BadRequest):
            deque(lines.windows(arriving, split, lines.objects, TOPIC), maxlen=0)

    return attempt


MEGABYTES = {
    "cursor": (place, b"c" + b"_" * 1_000_000),
    "a line without an end": (streamed(lines.lines), b"x" * 9_000_000),
    "an element without an end": (streamed(lines.elements), b'["' + b"x" * 9_000_000),
    "brackets": (streamed(lines.elements), b"[" * 100_000),
    "commas": (streamed(lines.elements), b"[" + b"," * 40_000),
    "search": (search, b"text=" + b"%61" * 20_000),  # servers take no longer addresses
    "REST": (rest(BODIES[media.JSON]), b'{"records": [{"value": ' + b"[" * 1_000_000),
    "masked value": (masked, b'{"card": ' + b'["{\\"card\\":' * 50_000),
    "value": (value, b"[" * 1_000_000),
    "shown value": (shown, b"[" * 200_000),
    "wide value": (shown, b"[" + b"{}," * 80_000 + b"1]"),
    "row without an end": (table, b'id\n"' + b"x" * 1_000_000),
    "message": (kafka, b"|" + b"<\xff" * 300_000),
}


@pytest.mark.parametrize("what", MEGABYTES)
def test_so_does_what_else_is_hostile(what: str):
    read, case = MEGABYTES[what]
    in_proportion(lambda: read(case), len(case))


def in_proportion(read: Callable[[], None], size: int) -> None:
    tracemalloc.start()
    try:
        began = time.process_time()
        read()
        seconds = time.process_time() - began
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert seconds < 5  # of this process's own time; a megabyte takes some hundredths
    assert peak < 40 * size + 10_000_000
