"""A thousand browsers that follow on one process: its memory, the delay of events, and what the consumer loses."""

import asyncio
import contextlib
import json
import resource
import sqlite3
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

import psutil

from benchmarks import harness, stack
from benchmarks.event_delay import MARK, percentiles, post
from benchmarks.harness import Bench, Figures, scratch
from benchmarks.stack import Site

NAME, TITLE = "viewers", "A thousand viewers on one process"
VIEWERS = 1_000  # as many as TKCONS["VIEWERS"] lets follow
MESSAGES = 100
PAUSE = 0.1  # seconds between two messages
BACKLOG = 200_000  # messages
ROUNDS = 3
PATIENCE = 60.0
AT_ONCE = 50  # connections that are being made
RETRY = 1.0  # seconds
GOAL_MB, GOAL_P99_MS, GOAL_RATE = 100, 100, 0.95
_REQUEST = b"GET /tkcons/events HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nAccept: text/event-stream\r\n\r\n"


def measure(bench: Bench) -> None:
    viewers, messages, backlog = (20, 5, 30_000) if bench.quick else (VIEWERS, MESSAGES, BACKLOG)
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))  # the server inherits it
    with scratch() as folder, stack.make_run(folder) as site:
        post(site, 1_000_000)  # the first finds connections and metadata cold
        with following(site, 1) as crowd:
            one = _delays(site, crowd, messages)
        before = _megabytes(site)
        with following(site, viewers) as crowd:
            all_ = _delays(site, crowd, messages)
            grown = _megabytes(site) - before
        bench.rows(
            [f"{messages} messages, one every {1000 * PAUSE:.0f} ms", "p50 ms", "p99 ms", "longest ms", "memory, MB"],
            [
                ["one viewer", *percentiles(one), ""],
                [f"{viewers:,} viewers", *percentiles(all_), f"+{grown:.0f}"],
                ["goal", "", GOAL_P99_MS, "", f"+{GOAL_MB}"],
            ],
        )

        def consumed(count: int) -> Figures:
            with following(site, count):
                return {"records/s": _rate(site, folder, backlog)}

        crowded = f"{viewers:,} viewers"
        bench.compare(
            f"The consumer, {backlog:,} messages of 100 bytes into SQLite and the text file",
            {"no viewer": lambda: consumed(0), crowded: lambda: consumed(viewers)},
            reference="no viewer",
            goals={crowded: GOAL_RATE},
            rounds=ROUNDS,
            warm_up=False,
        )
    bench.note(
        "*Delay*: from the POST until an event with its message is at a viewer, over all viewers. *Memory*: what the web "
        "process has of its own (USS), with all of them and after the messages. The viewers are one process, which shares "
        "the cores with server, consumer and broker: what it takes to read every event is in the consumer's ratio too."
    )


@dataclass
class Crowd:
    """Viewers in a thread of their own. seen: by a message's number, when (s) each viewer got it."""

    count: int
    seen: dict[int, list[float]] = field(default_factory=dict)


class _Viewer(asyncio.Protocol):
    """A browser's connection: nothing is parsed but the numbers of messages. begun: False where it was refused."""

    def __init__(self, crowd: Crowd, port: int) -> None:
        self.begun: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._crowd = crowd
        self._port = port

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        transport.write(_REQUEST % self._port)

    def data_received(self, data: bytes) -> None:
        now = time.perf_counter()
        if not self.begun.done():
            if b"event: place" in data or b"event: messages" in data:
                self.begun.set_result(True)
            elif data.startswith(b"HTTP/1.1 503"):
                self.begun.set_result(False)
        for number in MARK.findall(data):
            self._crowd.seen.setdefault(int(number), []).append(now)


@contextlib.contextmanager
def following(site: Site, count: int) -> Iterator[Crowd]:
    """So many viewers, all of which have begun to follow; refused ones come again, as browsers do."""
    crowd = Crowd(count)
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    transports: list[asyncio.Transport] = []
    few = asyncio.Semaphore(AT_ONCE)

    async def follow() -> None:
        async with few:
            begun = False
            while not begun:
                make = lambda: _Viewer(crowd, site.port)  # noqa: E731
                transport, viewer = await loop.create_connection(make, "127.0.0.1", site.port)
                begun = await viewer.begun
                if begun:
                    transports.append(transport)
                else:
                    transport.abort()
                    await asyncio.sleep(RETRY)

    async def follow_all() -> None:
        await asyncio.gather(*(follow() for _ in range(count)))

    async def leave() -> None:
        for transport in transports:
            transport.abort()
        await asyncio.sleep(0)  # in which they are closed

    try:
        asyncio.run_coroutine_threadsafe(follow_all(), loop).result(PATIENCE)
        yield crowd
    finally:
        asyncio.run_coroutine_threadsafe(leave(), loop).result(PATIENCE)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(PATIENCE)
        loop.close()


def _delays(site: Site, crowd: Crowd, messages: int) -> list[float]:
    """ms from each message's POST to each viewer's event."""
    crowd.seen.clear()
    posted = []
    for number in range(messages):
        posted.append(post(site, number)[0])
        time.sleep(PAUSE)
    seen = [crowd.seen.setdefault(number, []) for number in range(messages)]  # what was sent before may come late
    whole = messages * crowd.count
    _wait(lambda: sum(map(len, seen)) == whole, f"not every one of {whole:,} events came")
    return [1000 * (at - posted[number]) for number, times in enumerate(seen) for at in times]


def _megabytes(site: Site) -> float:
    """Of their own, of the web server's processes."""
    processes = psutil.Process(site.process.pid).children(recursive=True)
    return sum(each.memory_full_info().uss for each in processes if "granian" in each.cmdline()) / 2**20


def _rate(site: Site, folder: Path, count: int) -> float:
    """Rows a second, of so many messages that wait when the consumer begins."""
    with contextlib.closing(sqlite3.connect(folder / "db.sqlite3", timeout=20)) as database:
        ask = (
            "SELECT count(*) AS rows, stored_at FROM tkcons_message WHERE id > ? GROUP BY stored_at ORDER BY stored_at"
        )
        _call(site, "/tkcons/pause")
        _wait(lambda: _states(site) == {"paused"}, "the consumer did not pause")
        (last,) = database.execute("SELECT coalesce(max(id), 0) FROM tkcons_message").fetchone()
        _call(site, "/tkprod?lines=1&summary=1", (b"x" * 99 + b"\n") * count)
        _call(site, "/tkcons")
        _wait(lambda: sum(rows for rows, _ in database.execute(ask, [last])) >= count, "the messages were not stored")
        batches = database.execute(ask, [last]).fetchall()
    times = [datetime.fromisoformat(at) for _, at in batches]  # when each batch's transaction began
    stored: int = sum(rows for rows, _ in batches[:-1])  # of the last one the end is not known
    return stored / (times[-1] - times[0]).total_seconds()


def _states(site: Site) -> set[str]:
    return {
        member["state"] for group in json.loads(_call(site, "/tkcons/status"))["groups"] for member in group["members"]
    }


def _call(site: Site, path: str, body: bytes | None = b"") -> bytes:
    with contextlib.closing(site.connect()) as connection:
        method = "GET" if path == "/tkcons/status" else "POST"
        connection.request(method, path, body=body, headers={"Content-Type": "text/plain"})
        answer = connection.getresponse()
        given = answer.read()
        assert answer.status == 200, given
        return given


def _wait(until: Callable[[], bool], failure: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while not until():
        assert time.monotonic() < deadline, failure
        time.sleep(0.1)


if __name__ == "__main__":
    harness.main(sys.modules[__name__])
