"""/tkcons/events from every server that the documentation names: at once, without a gap, bounded, ended by SIGTERM."""

import contextlib
import json
import os
import shutil
import signal
import sqlite3
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import psutil
import pytest

from tests.acceptance.newcomer import free_port
from tests.integration import test_servers
from tests.integration.test_servers import PYTHON, ROOT
from tests.waiting import eventually

pytestmark = pytest.mark.timeout(120)

SERVERS = test_servers.SERVERS
IN_LOOP = ("granian", "uvicorn")  # of these; followers are the event loop's there
OTHERS = {
    "Django alone": [PYTHON, "-m", "uvicorn", "--port", "PORT", "--factory", "django.core.asgi:get_asgi_application"],
    "autoreload": [PYTHON, "manage.py", "runserver", "PORT"],
}


class Site:
    """A server of its own on a SQLite file, into which the test stores as another process would."""

    def __init__(self, server: str, data: Path, database: Path) -> None:
        """database: where an empty one is, to be copied."""
        port = free_port()
        self.data = data
        env = {**os.environ, "DATA": str(data), "DJANGO_DEBUG": "1", "KAFKA_BROKER_URL": "localhost:1"}
        (data / "settings_here.py").write_text("from tests.settings_events import *\n")
        env |= {"DJANGO_SETTINGS_MODULE": "settings_here", "PYTHONPATH": str(data)}
        shutil.copy(database, data / "db.sqlite3")
        command = [part.replace("PORT", str(port)) for part in (SERVERS | OTHERS)[server]]
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
        return sum(file.path.endswith("db.sqlite3") for process in self._processes() for file in process.open_files())

    def threads(self) -> int:
        return sum(process.num_threads() for process in self._processes())

    def _processes(self) -> list[psutil.Process]:
        top = psutil.Process(self.process.pid)
        return [top, *top.children(recursive=True)]

    @contextmanager
    def reloading(self) -> Iterator[None]:
        """Change a file that the autoreloader watches, again and again: it looks each second, and at first only notes."""
        over = threading.Event()

        def change() -> None:
            while not over.wait(0.5):
                os.utime(self.data / "settings_here.py")

        thread = threading.Thread(target=change)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()

    @contextmanager
    def follow(self, after: str | None = None, **headers: str) -> Iterator["Stream"]:
        headers |= {} if after is None else {"Last-Event-ID": after}
        with self.client.stream("GET", "/tkcons/events", headers=headers) as answer:
            assert answer.status_code == 200
            assert answer.headers["content-type"] == "text/event-stream"
            assert answer.headers["content-encoding"] == "identity"
            yield Stream(answer)

    def close(self) -> None:
        for process in reversed(self._processes() if self.process.poll() is None else []):
            process.kill()
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


@pytest.fixture(scope="module")
def database(tmp_path_factory) -> Path:
    """An empty one."""
    data = tmp_path_factory.mktemp("migrated")
    env = {**os.environ, "DATA": str(data), "DJANGO_SETTINGS_MODULE": "tests.settings_events", "DJANGO_DEBUG": "1"}
    subprocess.run([PYTHON, "manage.py", "migrate", "-v0"], cwd=ROOT, env=env, check=True)
    return data / "db.sqlite3"


@pytest.fixture(params=SERVERS)
def site(request, tmp_path, database) -> Iterator[Site]:
    made = Site(request.param, tmp_path, database)
    yield made
    made.close()


@pytest.mark.parametrize("site", [*SERVERS, "Django alone"], indirect=True)
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


def test_a_full_house_holds_little_answers_503_and_has_room_again(site: Site, request):
    server = request.node.callspec.params["site"]
    session = {"Cookie": f"sessionid={'x' * 32}"}  # is looked up
    for _ in range(20):
        assert site.client.get("/tkcons/status", headers=session).status_code == 200
    assert site.connections() == 0
    with contextlib.ExitStack() as stack:
        threads, streams = [], []  # a stream that nobody holds is closed
        for _ in range(3 if server == "gunicorn" else 4):
            streams.append(stack.enter_context(site.follow(**session)))
            assert streams[-1].event() == "place"
            threads.append(site.threads())
        full = site.client.get("/tkcons/events")
        assert (full.status_code, full.headers["retry-after"]) == (503, "30")
        assert full.headers["x-error-code"] == "too_many_viewers"
        assert site.client.get("/healthz").status_code == 200  # there are threads left
        eventually(lambda: site.connections() <= 2, 5)  # the one reader's, and a file that SQLite keeps for the next
        if server in IN_LOOP:
            # A follower has none; what has just been asked may have had another than the first one had.
            eventually(lambda: site.threads() <= threads[0] + 1, 5)

    def again() -> bool:
        site.store("somebody notices")  # the second write to a client that is gone fails, and frees its place
        with site.client.stream("GET", "/tkcons/events") as answer:
            return answer.status_code == 200

    eventually(again, 40)


@pytest.mark.parametrize("site", ["autoreload"], indirect=True)
def test_a_reload_ends_streams_and_misses_nothing(site: Site):
    with site.follow() as stream:
        assert stream.event() == "place"
        with site.reloading(), contextlib.suppress(httpx.TransportError):  # cut off in the middle of a chunk
            assert stream.event() == ""
    site.store("meanwhile")
    eventually(site._answers, 30)
    with site.follow(stream.place) as stream:
        assert stream.until(1) == ["meanwhile"]
