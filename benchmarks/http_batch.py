"""Batches over HTTP against the raw client: produce_batch(), and produce() with key and headers.

One granian worker, DEBUG off, an API token; two connections send one batch after the other.
"""

import contextlib
import http.client
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from confluent_kafka import KafkaError, Message, Producer

from benchmarks import harness
from benchmarks.harness import Bench, Figures, scratch
from benchmarks.http_single import serve
from benchmarks.stack import for_load

NAME, TITLE = "http_batch", "Batches over HTTP"

LINES = 10_000
CONNECTIONS = 2
TOPIC = "sample-topic"
PORT = 18_741
TEXT = b"".join(b"%09d" % number + b"x" * 91 + b"\n" for number in range(LINES))
KEYED = b"".join(
    b'{"value":"%s","key":"key-%d","headers":{"source":"bench","trace":"0123456789"}}\n' % (b"x" * 100, number)
    for number in range(LINES)
)
PLAIN = b"".join(b'{"value":"%s"}\n' % (b"x" * 100) for _ in range(LINES))


def measure(bench: Bench) -> None:
    batches = 4 if bench.quick else 40
    with bench.kafka() as kafka, scratch() as data, contextlib.ExitStack() as stack:
        env, token = for_load(data, kafka.bootstrap)
        stack.enter_context(serve("fast lane", PORT, env, data))

        def over_http(query: str, kind: str, body: bytes, count: int = batches) -> Callable[[], Figures]:
            headers = {"Authorization": f"Bearer {token}", "Content-Type": kind}
            return lambda: _over_http(f"/tkprod?{query}", headers, body, count)

        bench.compare(
            f"values of 100 bytes, {LINES:,} a batch",
            {
                "produce_batch": lambda: raw_batches(kafka.bootstrap, batches * LINES),
                "lines, summary": over_http("lines=1&summary=1", "text/plain", TEXT),
                "NDJSON, summary": over_http("summary=1", "application/x-ndjson", PLAIN),
                "lines, an answer each": over_http("lines=1", "text/plain", TEXT),
                "lines, atomic, summary": over_http("lines=1&summary=1&atomic=1", "text/plain", TEXT),
            },
            reference="produce_batch",
            goals={"lines, summary": 0.80},
        )
        for size in (1_000, 100_000):
            count = max(CONNECTIONS, batches * LINES // size // 2)
            text = b"".join([b"%09d" % number + b"x" * 91 + b"\n" for number in range(size)])
            bench.compare(
                f"values of 100 bytes, {size:,} a batch",
                {
                    "produce_batch": partial(raw_batches, kafka.bootstrap, count * size, size),
                    "lines, summary": over_http("lines=1&summary=1", "text/plain", text, count),
                },
                reference="produce_batch",
            )
        bench.compare(
            f"values of 100 bytes with a key and two headers, {LINES:,} a batch",
            {
                "produce()": lambda: raw_singly(kafka.bootstrap, batches * LINES),
                "NDJSON, summary": over_http("summary=1", "application/x-ndjson", KEYED),
                "NDJSON, an answer each": over_http("", "application/x-ndjson", KEYED),
            },
            reference="produce()",
            goals={"NDJSON, summary": 0.80},
        )


class _Raw:
    """The raw client, which counts its acknowledgements."""

    def __init__(self, bootstrap: str) -> None:
        self.acknowledged = 0
        self.client = Producer(
            {"bootstrap.servers": bootstrap, "enable.idempotence": True, "linger.ms": 1, "log_level": 0}
        )

    def delivered(self, error: KafkaError | None, message: Message) -> None:
        assert error is None
        self.acknowledged += 1

    def rate(self, records: int, began: float) -> Figures:
        assert self.client.flush(60) == 0
        assert self.acknowledged == records
        return {"records/s": records / (time.perf_counter() - began)}


def raw_batches(bootstrap: str, records: int, size: int = LINES) -> Figures:
    raw, value, began = _Raw(bootstrap), b"x" * 100, time.perf_counter()
    for _ in range(0, records, size):
        messages = [{"value": value, "callback": raw.delivered} for _ in range(size)]
        while messages:
            taken = raw.client.produce_batch(TOPIC, messages)
            messages = messages[taken:]
            raw.client.poll(0.005 if messages else 0)
    return raw.rate(records, began)


def raw_singly(bootstrap: str, records: int) -> Figures:
    raw, value, began = _Raw(bootstrap), b"x" * 100, time.perf_counter()
    for number in range(records):
        headers = [("source", b"bench"), ("trace", b"0123456789")]
        while True:
            try:
                raw.client.produce(TOPIC, value, b"key-%d" % number, on_delivery=raw.delivered, headers=headers)
                break
            except BufferError:
                raw.client.poll(0.005)
        if number % 1_000 == 0:
            raw.client.poll(0)
    return raw.rate(records, began)


def _over_http(target: str, headers: dict[str, str], body: bytes, batches: int) -> Figures:
    size = body.count(b"\n")

    def send(count: int) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", PORT, timeout=60)
        for _ in range(count):
            connection.request("POST", target, body, headers)
            answer = connection.getresponse()
            told = answer.read()
            assert answer.status == 200, told[-500:]
            assert b'"produced":%d,' % size in told[-200:], told[-500:]
        connection.close()

    began = time.perf_counter()
    with ThreadPoolExecutor(CONNECTIONS) as pool:
        list(pool.map(send, [batches // CONNECTIONS] * CONNECTIONS))
    return {"records/s": batches * size / (time.perf_counter() - began)}


if __name__ == "__main__":
    harness.main(sys.modules[__name__])
