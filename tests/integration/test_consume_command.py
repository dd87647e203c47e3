"""`manage.py consume` in processes of its own: killed, hung, ended in order, sharing the work."""

import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import psutil
import pytest
from django.db import connection

from tests.integration.consuming import QUICK, held
from tests.waiting import eventually
from tkcons.models import Member, Message, Position

pytestmark = [pytest.mark.kafka, pytest.mark.django_db(transaction=True)]


@pytest.fixture(autouse=True)
def _settings(settings, broker):
    settings.TKCONS = QUICK


@contextmanager
def consuming(broker: str, topic: str, *arguments: str) -> Iterator[subprocess.Popen]:
    """`manage.py consume` of the database group, on the test's database."""
    env = {
        **os.environ,
        "KAFKA_BROKER_URL": broker,
        "DATABASE_URL": f"sqlite:///{connection.settings_dict['NAME']}",
        "CONSUME_TOPIC": topic,
        "DJANGO_SETTINGS_MODULE": "tests.settings_consume",
    }
    command = [sys.executable, "manage.py", "consume", *arguments]
    process = subprocess.Popen(command, env=env, cwd=Path(__file__).parents[2], stderr=subprocess.DEVNULL)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def test_kill_9_loses_and_doubles_nothing(send, broker, make_topic):
    topic = make_topic(2)
    stop = threading.Event()
    sent = [0, 0]

    def load() -> None:
        while not stop.is_set():
            for partition in range(2):
                send(topic, *range(sent[partition], sent[partition] + 50), partition=partition)
                sent[partition] += 50
            time.sleep(0.01)

    loader = threading.Thread(target=load)
    loader.start()
    try:
        for _ in range(3):
            before = Message.objects.count()
            with consuming(broker, topic) as process:
                eventually(lambda before=before: Message.objects.count() > before + 100, 40)
                process.kill()
    finally:
        stop.set()
        loader.join()
    with consuming(broker, topic):
        eventually(lambda: Message.objects.count() >= sum(sent), 60)
    for position in Position.objects.all():
        stored = list(position.messages.order_by("pk").values_list("offset", flat=True))
        assert stored == list(range(sent[position.partition]))


def test_a_process_that_was_thought_dead_comes_back_and_doubles_nothing(send, broker, topic):
    send(topic, *range(100))
    with consuming(broker, topic) as sleeper:
        eventually(lambda: Message.objects.count() == 100, 40)
        _stop_outside_a_transaction(sleeper)
        send(topic, *range(100, 200))
        with consuming(broker, topic) as heir:
            eventually(lambda: Message.objects.count() == 200, 60)  # after the session timeout
            sleeper.send_signal(signal.SIGCONT)
            for first in range(200, 1_000, 100):
                send(topic, *range(first, first + 100))
                time.sleep(0.2)  # through the rebalance
            eventually(lambda: Message.objects.count() == 1_000, 60)
            assert sleeper.poll() is None
            assert heir.poll() is None
    assert list(Message.objects.order_by("pk").values_list("offset", flat=True)) == list(range(1_000))


def _stop_outside_a_transaction(process: subprocess.Popen) -> None:
    """SQLite's lock would be held for ever by a stopped process: this test is about what comes after."""
    for _ in range(20):
        process.send_signal(signal.SIGSTOP)
        try:
            with closing(sqlite3.connect(connection.settings_dict["NAME"], timeout=0.3)) as database:
                database.execute("BEGIN IMMEDIATE")
                return
        except sqlite3.OperationalError:
            process.send_signal(signal.SIGCONT)
            time.sleep(0.05)
    pytest.fail("it is always in a transaction")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_in_order(send, broker, topic, number):
    send(topic, *range(10))
    with consuming(broker, topic) as process:
        eventually(lambda: Message.objects.count() == 10, 40)
        process.send_signal(number)
        assert process.wait(20) == 0
    assert not Member.objects.exists()


def test_processes_share_the_work_and_are_restarted(send, broker, make_topic):
    topic = make_topic(4)
    with consuming(broker, topic, "--processes", "2") as parent:
        eventually(lambda: len(held("tkcons.database")) == 4 and Member.objects.count() == 2, 60)
        children = psutil.Process(parent.pid).children()
        assert len(children) == 2
        children[0].kill()
        eventually(lambda: Member.objects.exclude(pid__in=[child.pid for child in children]).exists(), 60)
        send(topic, "a", partition=0)
        send(topic, "b", partition=3)
        eventually(lambda: Message.objects.count() == 2, 40)
        children = psutil.Process(parent.pid).children()
        parent.send_signal(signal.SIGTERM)
        assert parent.wait(40) == 0
        assert psutil.wait_procs(children, 1)[1] == []


@pytest.mark.parametrize("when", ["they start", "they run"])
def test_children_end_when_their_supervisor_is_killed(broker, topic, when):
    with consuming(broker, topic, "--processes", "2") as parent:
        supervisor = psutil.Process(parent.pid)
        eventually(lambda: len(supervisor.children()) == 2, 60)
        children = supervisor.children()
        if when == "they run":
            eventually(lambda: Member.objects.count() == 2, 60)
        parent.kill()
        _, alive = psutil.wait_procs(children, 30)
        for child in alive:
            child.kill()
        assert alive == []
    assert not Member.objects.exists()  # they ended in order
