"""/tkcons/events from every server that the documentation names: at once, without a gap, bounded, ended by SIGTERM."""

import contextlib
import json
import os
import signal
import sqlite3
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import psutil
import pytest

from tests.acceptance.newcomer import free_port
from tests.integration.test_servers import PYTHON, ROOT, SERVERS
from tests.waiting import eventually

pytestmark = pytest.mark.timeout(120)


class Site:
    """A server of its own on a SQLite file, into which the test stores as another process would."""

    def __init__(self, server: str, data: Path) -> None:
        port = free_port()
        self.data = data
        env = {**os.environ, "DATA": str(data), "DJANGO_DEBUG": "1", "KAFKA_BROKER_URL": "localhost:1"}
        env |= {"DJANGO_SETTINGS_MODULE": "tests.settings_events"}
        subprocess.run([PYTHON, "manage.py", "migrate", "-v0"], cwd=ROOT, env=env, check=True)
        command = [part.replace("PORT", str(port)) for part in SERVERS[server]]
        self.log = data / "log"
        with self.log.open("w") as log:
            self.process = subprocess.Popen(command, cwd=ROOT, env=env, stdout=log, stderr=log)
        self.client = httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=20, trust_env=False)
        eventually(self._answers, 30)
        self.next = 0

    def _answers(self) -> bool:
        try:
            return self.client.get("/healthz").status_code == 200
        except httpx.HTTPError:
            return False

    def store(self, *values: str) -> None:
        with sqlite3.connect(self.data / "db.sqlite3", timeout=20) as database:
            database.execute(
                'INSERT OR IGNORE INTO tkcons_position (id, "group", topic, topic_id, partition, generation, start_offset,'
                " next_offset, updated_at, stores, tries) VALUES (1, 'g', 't', 't', 0, 0, 0, 0, '2026-01-01', 1, 0)"
            )
            database.executemany(
                'INSERT INTO tkcons_message (position_id, "offset", timestamp_type, value, stored_at)'
                " VALUES (1, ?, 0, ?, strftime('%Y-%m-%d %H:%M:%f', 'now'))",
                [(self.next + number, value.encode()) for number, value in enumerate(values)],
            )
            self.next += len(values)
            database.execute("UPDATE tkcons_position SET next_offset = ?", [self.next])
        database.close()

    def connections(self) -> int:
        """How many connections to the database its processes hold."""
        top = psutil.Process(self.process.pid)
        processes = [top, *top.children(recursive=True)]
        return sum(file.path.endswith("db.sqlite3") for process in processes for file in process.open_files())

    @contextmanager
    def follow(self, after: str | None = None, **headers: str) -> Iterator["Stream"]:
        headers |= {} if after is None else {"Last-Event-ID": after}
        with self.client.stream("GET", "/tkcons/events", headers=headers) as answer:
            assert answer.status_code == 200
            assert answer.headers["content-type"] == "text/event-stream"
            assert answer.headers["content-encoding"] == "identity"
            yield Stream(answer)

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        self.client.close()


class Stream:
    def __init__(self, answer: httpx.Response) -> None:
        self._lines = answer.iter_lines()
        self.place = ""
        self.values: list[str] = []
        self.dropped = 0

    def event(self) -> str:
        """The next event's name."""
        fields: dict[str, str] = {}
        for line in self._lines:
            if not line and "event" in fields:
                break
            name, _, value = line.partition(": ")
            fields[name] = value
        else:
            return ""
        self.place = fields.get("id", self.place)
        if fields["event"] == "messages":
            self.values += [row["value"]["text"] for row in json.loads(fields["data"])]
        elif fields["event"] == "dropped":
            self.dropped += json.loads(fields["data"])["count"]
        return fields["event"]

    def until(self, count: int) -> list[str]:
        while len(self.values) < count:
            assert self.event()
        return self.values


@pytest.fixture(params=SERVERS)
def site(request, tmp_path) -> Iterator[Site]:
    made = Site(request.param, tmp_path)
    yield made
    made.close()


def test_a_stream_from_begin_to_sigterm(site: Site):
    with site.follow() as stream:
        assert stream.event() == "place"
        site.store("one")
        began = time.monotonic()
        assert stream.until(1) == ["one"]
        assert time.monotonic() - began < 5  # at once; a poll of 15 s would be the heartbeat's
        place = stream.place
    site.store(*(f"missed {number}" for number in range(5)))
    with site.follow(place) as stream:
        assert stream.until(5) == [f"missed {number}" for number in range(5)]
        site.store(*(str(number) for number in range(300)))
        assert stream.until(205)[-1] == "299"
        assert stream.dropped == 100
        asked = site.client.get("/tkcons/events", params={"poll": 1, "after": place}).json()
        assert (len(asked["messages"]), asked["dropped"], asked["after"]) == (200, 105, stream.place)
        assert site.client.get("/tkcons/events?after=nonsense").status_code == 400
        site.process.send_signal(signal.SIGTERM)
        assert stream.event() == ""  # the server ends it
    code = site.process.wait(15)
    assert code in {0, -signal.SIGTERM}, site.log.read_text()


def test_a_full_house_answers_503_and_has_room_again(site: Site):
    room = 3 if "gunicorn" in str(site.process.args) else 4
    with site.follow() as first, site.follow(), site.follow():
        first.event()
        if room == 4:
            with site.follow():
                full = site.client.get("/tkcons/events")
        else:
            full = site.client.get("/tkcons/events")
        assert (full.status_code, full.headers["retry-after"]) == (503, "30")
        assert full.headers["x-error-code"] == "too_many_viewers"
        assert site.client.get("/healthz").status_code == 200  # there are threads left
    site.store("somebody notices")  # a write to a client that is gone frees its place

    def again() -> bool:
        with site.client.stream("GET", "/tkcons/events") as answer:
            return answer.status_code == 200

    eventually(again, 40)


def test_neither_requests_nor_followers_hold_a_connection(site: Site):
    session = {"Cookie": f"sessionid={'x' * 32}"}  # is looked up
    for _ in range(20):
        assert site.client.get("/tkcons/status", headers=session).status_code == 200
    assert site.connections() == 0
    with contextlib.ExitStack() as stack:
        for _ in range(3):
            stream = stack.enter_context(site.follow(**session))
            assert stream.event() == "place"
        eventually(lambda: site.connections() <= 2, 5)  # the one reader's, and a file that SQLite keeps for the next
