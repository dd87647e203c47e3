"""From a POST to the event that a viewer's browser gets: the whole way, on what `make run` starts."""

import http.client
import re
import statistics
import sys
import threading
import time

from benchmarks import harness, stack
from benchmarks.harness import Bench, percentile, scratch
from benchmarks.stack import Site

NAME, TITLE = "event_delay", "From POST to the viewer's event"
MESSAGES = 500
PAUSE = 0.02  # seconds between two messages
MARK = re.compile(rb"delay-(\d+)-")


def measure(bench: Bench) -> None:
    messages = 20 if bench.quick else MESSAGES
    with scratch() as folder, stack.make_run(folder) as site:
        seen: dict[int, float] = {}
        following = threading.Event()
        threading.Thread(target=_follow, args=(site, seen, following), daemon=True).start()
        assert following.wait(30), "the stream of events did not begin"
        post(site, 1_000_000)  # the first finds connections and metadata cold
        _wait(seen, 1)
        posted = {}
        for number in range(messages):
            posted[number] = post(site, number)
            time.sleep(PAUSE)
        _wait(seen, messages + 1)
    delays = [1000 * (seen[number] - began) for number, (began, _) in posted.items()]
    answers = [1000 * (answered - began) for began, answered in posted.values()]
    bench.rows(
        [f"{messages} messages, one after the other", "p50 ms", "p99 ms", "longest ms"],
        [
            ["from POST to its answer", *percentiles(answers)],
            ["from POST to the event", *percentiles(delays)],
            ["goal", "20", "100", ""],
        ],
    )
    bench.note("The message is at the viewer after the broker's acknowledgement, the consumer's poll and one commit.")


def percentiles(values: list[float]) -> tuple[float, float, float]:
    return statistics.median(values), percentile(values, 0.99), max(values)


def post(site: Site, number: int) -> tuple[float, float]:
    """When it was sent and when it was answered (s)."""
    connection = site.connect()
    connection.connect()
    began = time.perf_counter()
    connection.request("POST", "/tkprod", body=f"delay-{number}-", headers={"Content-Type": "text/plain"})
    answer = connection.getresponse()
    assert answer.status == 200, answer.read()
    answered = time.perf_counter()
    connection.close()
    return began, answered


def _follow(site: Site, seen: dict[int, float], following: threading.Event) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", site.port)
    connection.request("GET", "/tkcons/events", headers={"Accept": "text/event-stream"})
    answer = connection.getresponse()
    assert answer.status == 200, answer.read()
    while line := answer.readline():
        now = time.perf_counter()
        following.set()
        for number in MARK.findall(line):
            seen.setdefault(int(number), now)


def _wait(seen: dict[int, float], count: int) -> None:
    deadline = time.monotonic() + 30
    while len(seen) < count:
        assert time.monotonic() < deadline, f"{len(seen)} of {count} events came"
        time.sleep(0.05)


if __name__ == "__main__":
    harness.main(sys.modules[__name__])
