"""Groups in a web process: who runs them, and what a start of the server does to the tutorial's file."""

import os
import signal
import socket
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from confluent_kafka import Producer
from django.core.management import call_command
from django.utils import timezone

from tests.waiting import eventually
from tk.access import CODE
from tkcons import groups, server, web
from tkcons.groups import Heartbeat
from tkcons.models import Group, Member, Message
from tkcons.sinks import TextFileSink

pytestmark = [pytest.mark.kafka, pytest.mark.django_db(transaction=True)]

GROUP = "tkcons.database"


@pytest.fixture(autouse=True)
def _settings(settings, broker, topic):
    settings.TKCONS = {
        "SINKS": {"database": {"class": "tkcons.sinks.DatabaseSink", "topics": [topic]}},
        "HEARTBEAT_SECONDS": 0.2,
        "STOP_SECONDS": 10.0,
    }


@pytest.fixture(autouse=True)
def _no_thread_outlives_its_test() -> Iterator[None]:
    yield
    web.stop()
    assert not [thread.name for thread in threading.enumerate() if thread.name.startswith("tkcons")]


@pytest.fixture
def send(broker, topic) -> Iterator[Callable[..., None]]:
    producer = Producer({"bootstrap.servers": broker, "linger.ms": 1})

    def go(*values: str, to: str = topic) -> None:
        for value in values:
            producer.produce(to, value)
        assert producer.flush(20) == 0

    yield go
    producer.close()


def running() -> bool:
    return Member.objects.filter(state="running").exists()


def test_it_runs_while_it_is_wanted_and_only_once(send):
    for _ in range(3):
        groups.want(Group.State.RUNNING, CODE)
        web.ensure_started()
    send("a")
    eventually(lambda: Message.objects.count() == 1)
    assert Member.objects.get().in_web
    groups.want(Group.State.STOPPED, CODE)
    web.ensure_started()
    eventually(lambda: not Member.objects.exists())
    send("b")
    groups.want(Group.State.RUNNING, CODE)
    eventually(lambda: Message.objects.count() == 2)


def test_nothing_runs_that_is_not_wanted(settings):
    settings.TKCONS = {**settings.TKCONS, "RUN_IN_WEB": True}
    web.resume()
    threading.Event().wait(1)
    assert not Member.objects.exists()


def test_a_web_process_that_starts_goes_on_where_that_is_allowed(settings):
    groups.want(Group.State.RUNNING, CODE)
    settings.TKCONS = {**settings.TKCONS, "RUN_IN_WEB": False}
    web.resume()
    assert not [thread for thread in threading.enumerate() if thread.name == "tkcons-web"]
    settings.TKCONS = {**settings.TKCONS, "RUN_IN_WEB": True}
    web.resume()
    eventually(running)


def test_it_leaves_the_group_to_a_consume_process_and_takes_it_over():
    groups.want(Group.State.RUNNING, CODE)
    web.ensure_started()
    eventually(running)
    process = Heartbeat(GROUP, in_web=False)
    eventually(lambda: process.beat("running", [], 0, "") and not Member.objects.filter(in_web=True).exists())
    for _ in range(5):
        process.beat("running", [], 0, "")
        threading.Event().wait(0.2)
        assert not Member.objects.filter(in_web=True).exists()
    Member.objects.filter(name=process.name).update(seen_at=timezone.now() - timedelta(seconds=5))  # killed
    eventually(lambda: Member.objects.filter(in_web=True, state="running").exists())


def test_one_of_several_web_processes_has_the_lease():
    groups.want(Group.State.RUNNING, CODE)
    assert groups.lease(GROUP, "another:1")
    web.ensure_started()
    threading.Event().wait(0.7)
    assert not Member.objects.exists()
    eventually(running)  # the other one does not renew it


def test_its_end_stops_the_runner_and_gives_the_lease_back():
    groups.want(Group.State.RUNNING, CODE)
    web.ensure_started()
    eventually(running)
    web.stop()
    assert not Member.objects.exists()
    assert Group.objects.get().lease_owner == ""
    assert groups.lease(GROUP, "another:1")


class TestClearing:
    @pytest.fixture(autouse=True)
    def _file(self, settings, tmp_path, monkeypatch):
        self.path = tmp_path / "consumed.txt"
        self.sink = {"class": "tkcons.sinks.TextFileSink", "topics": ["orders"], "path": self.path}
        settings.TKCONS = {"SINKS": {"file": self.sink}, "CLEAR_ON_START": True, "RUN_IN_WEB": False}
        monkeypatch.delenv(server.TOKEN, raising=False)
        sink = TextFileSink("tkcons.file", path=self.path)
        sink.open()
        sink._cut([self.path.name])
        with sink.ledger.transaction():
            sink._append(self.path.name, b"a line\n")
        sink.close()

    def test_each_start_once(self, monkeypatch):
        monkeypatch.setenv(server.TOKEN, "one")
        server.started()
        assert self.path.read_text() == ""
        sink = TextFileSink("tkcons.file", path=self.path)
        sink.open()
        with sink.ledger.transaction():
            sink._append(self.path.name, b"another\n")
        sink.close()
        server.started()  # a reload, a second worker, one that was restarted
        assert self.path.read_text() == "another\n"
        monkeypatch.setenv(server.TOKEN, "two")
        server.started()
        assert self.path.read_text() == ""

    def test_never_without_a_token(self):
        server.started()
        assert self.path.read_text() == "a line\n"

    @pytest.mark.parametrize("where", ["setting", "sink"])
    def test_never_when_it_is_to_be_kept(self, settings, monkeypatch, where):
        monkeypatch.setenv(server.TOKEN, "one")
        kept = (
            {"CLEAR_ON_START": False}
            if where == "setting"
            else {"SINKS": {"file": {**self.sink, "clear_on_start": False}}}
        )
        settings.TKCONS = {**settings.TKCONS, **kept}
        server.started()
        assert self.path.read_text() == "a line\n"

    def test_not_by_other_commands(self, monkeypatch):
        monkeypatch.setenv(server.TOKEN, "one")
        call_command("check")
        call_command("migrate", verbosity=0)
        assert self.path.read_text() == "a line\n"

    def test_a_server_starts_all_the_same_when_the_file_cannot_be_emptied(self, monkeypatch):
        monkeypatch.setenv(server.TOKEN, "one")
        self.path.unlink()
        self.path.mkdir()
        server.started()


def test_runserver_by_hand(send, broker, make_topic, tmp_path):
    """The tutorial's way: migrate, runserver, /tkcons. A reload goes on, and empties nothing; a new start empties."""
    topic = make_topic()
    (tmp_path / "hand.py").write_text(
        "from tutorialkafka.settings import *\n"
        f"for sink in TKCONS['SINKS'].values(): sink['topics'] = [{topic!r}]\n"
        "TKCONS['HEARTBEAT_SECONDS'] = 0.3\n"
    )
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    env = {key: value for key, value in os.environ.items() if key not in {"DATABASE_URL", "SECRET_KEY", server.TOKEN}}
    env |= {
        "DATA": str(tmp_path / "data"),
        "KAFKA_BROKER_URL": broker,
        "DJANGO_SETTINGS_MODULE": "hand",
        "PYTHONPATH": str(tmp_path),
    }
    command = [sys.executable, "manage.py"]
    root = Path(__file__).parents[2]
    subprocess.run([*command, "migrate", "-v0"], env=env, cwd=root, check=True)
    path = tmp_path / "data" / "consumed_messages.txt"

    def text() -> str:
        return path.read_text() if path.exists() else ""

    def get(what: str) -> str:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}{what}", timeout=5) as answer:
                return answer.read().decode()
        except OSError:
            return ""

    def start() -> subprocess.Popen:
        return subprocess.Popen(
            [*command, "runserver", f"127.0.0.1:{port}"], env=env, cwd=root, stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip

    process = start()
    try:
        eventually(lambda: "Started consumer" in get("/tkcons"), 30)
        send("first", to=topic)
        eventually(lambda: "b'first'" in text(), 30)
        (tmp_path / "hand.py").touch()  # a reload
        send("second", to=topic)
        eventually(lambda: "b'second'" in text(), 40)
        assert text().count("b'first'") == 1
        process.send_signal(signal.SIGINT)
        process.wait(30)
        process = start()
        eventually(lambda: get("/tkcons/status"), 30)
        assert text() == ""
        send("third", to=topic)
        eventually(lambda: "b'third'" in text(), 30)
        assert text().count("<br>") == 1
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(30)
