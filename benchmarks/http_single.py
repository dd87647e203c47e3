"""Confirmed single messages over HTTP, one granian worker, against a loop in one process without HTTP that has as many
messages on their way as the load has connections.

Requests carry an API token, and DEBUG is off: reading, checks, permission, metrics are what production has.
"""

import contextlib
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from urllib.request import urlopen

from confluent_kafka import KafkaError, Message, Producer

from benchmarks import harness
from benchmarks.harness import ROOT, Bench, Figures, scratch
from benchmarks.http_load import figures
from benchmarks.stack import for_load

NAME, TITLE = "http_single", "Confirmed single messages over HTTP"

CONNECTIONS = 64
OTHERS = (1, 512)  # connections, the fast lane alone
SECONDS = 5.0
TOPIC = "sample-topic"
PORT = 18_731
GRANIAN = [sys.executable, "-m", "granian", "--workers", "1", "--loop", "uvloop"]
FAST_LANE = "fast lane"
SERVERS = {
    FAST_LANE: ["--interface", "asgi", "tutorialkafka.asgi:application"],
    "Django view, ASGI": ["--interface", "asgi", "tutorialkafka.asgi:django_application"],
    "Django view, WSGI": ["--interface", "wsgi", "tutorialkafka.wsgi:application"],
}


def measure(bench: Bench) -> None:
    seconds = 1.0 if bench.quick else SECONDS
    with bench.kafka() as kafka, scratch() as data, contextlib.ExitStack() as stack:
        env, token = for_load(data, kafka.bootstrap)
        for number, name in enumerate(SERVERS):
            stack.enter_context(serve(name, PORT + number, env, data))
        for connections in (CONNECTIONS, *OTHERS):
            names = list(SERVERS) if connections == CONNECTIONS else [FAST_LANE]
            reference = f"loop of {connections}, no HTTP"
            contenders = {reference: partial(_loop, kafka.bootstrap, connections, seconds)}
            for name in names:
                contenders[name] = partial(_load, PORT + list(SERVERS).index(name), connections, seconds, token)
            bench.compare(
                f"100 bytes, acks=all, {connections} connection{'s' if connections > 1 else ''}",
                contenders,
                reference=reference,
                goals={FAST_LANE: 0.40} if connections == CONNECTIONS else None,
                rounds=5 if connections == CONNECTIONS else 3,
            )
    bench.note(
        "Broker, server and the process that makes the load share the cores; beside the loop there is no such process."
    )


def _loop(bootstrap: str, messages: int, seconds: float) -> Figures:
    """messages: on their way at a time; each acknowledgement sends the next. The client's start is not measured."""
    client = Producer({"log_level": 0, "bootstrap.servers": bootstrap, "enable.idempotence": True, "linger.ms": 1})
    latencies, value = list[float](), b"x" * 100
    client.produce(TOPIC, value)  # a new producer's first acknowledgement takes half a second
    client.flush()
    began = time.perf_counter()
    until = began + seconds

    def go() -> None:
        sent = time.perf_counter()

        def delivered(error: KafkaError | None, message: Message) -> None:
            assert error is None
            now = time.perf_counter()
            latencies.append((now - sent) * 1000)
            if now < until:
                go()

        client.produce(TOPIC, value, on_delivery=delivered)

    for _ in range(messages):
        go()
    while len(client):
        client.poll(0.1)
    return figures(latencies, time.perf_counter() - began)


def _load(port: int, connections: int, seconds: float, token: str) -> Figures:
    command = [sys.executable, "-m", "benchmarks.http_load", str(port), str(connections), str(seconds), token]
    told: Figures = json.loads(subprocess.run(command, cwd=ROOT, check=True, capture_output=True).stdout)
    return told


@contextlib.contextmanager
def serve(name: str, port: int, env: dict[str, str], data: Path) -> Iterator[None]:
    """One of SERVERS on a port, until the block's end."""
    command = [*GRANIAN, "--port", str(port), *SERVERS[name]]
    with (data / f"log-{port}").open("w") as log:
        server = subprocess.Popen(command, cwd=ROOT, env=env, stdout=log, stderr=log)
    try:
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            with contextlib.suppress(OSError), urlopen(f"http://127.0.0.1:{port}/healthz", timeout=2):
                break
            time.sleep(0.1)
        yield
    finally:
        server.terminate()
        server.wait(20)


if __name__ == "__main__":
    harness.main(sys.modules[__name__])
