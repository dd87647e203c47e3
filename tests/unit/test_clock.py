"""Who waits by the wall clock hears that it was put back; a consumer that does not come round then is given up."""

import gc
import threading
from types import SimpleNamespace

import pytest
from confluent_kafka import Producer

from tests.waiting import eventually
from tk import clock
from tkcons import runner, web
from tkcons.groups import Spec
from tkcons.runner import Runner


class Client:
    def __init__(self) -> None:
        self.heard = threading.Event()

    def put_back(self) -> None:
        self.heard.set()


@pytest.fixture
def ahead() -> list[float]:
    """Seconds of the wall clock ahead of the other one: the last of the list."""
    return [0.0]


@pytest.fixture
def watch(ahead) -> clock.Watch:
    return clock.Watch(lambda: ahead[-1], 0.02)


class Broken(Client):
    def put_back(self) -> None:
        raise RuntimeError("as a client might")


def test_a_clock_that_is_put_back(watch, ahead):
    clients = [Client(), Broken(), Client()]
    for client in clients:
        watch.tell(client.put_back)
    for step in (3_600.0, 3_599.0):  # forward; slewed
        ahead.append(step)
        assert not clients[0].heard.wait(0.1)
    ahead.append(-1.0)
    assert clients[0].heard.wait(5)
    assert clients[2].heard.wait(5)


def test_the_thread_ends_with_the_last_client(watch, ahead):
    clients = [Client()]
    watch.tell(clients[0].put_back)
    thread = watch._thread
    clients.clear()
    gc.collect()
    thread.join(5)
    assert not thread.is_alive()
    another = Client()
    watch.tell(another.put_back)
    ahead.append(-3_600.0)
    assert another.heard.wait(5)


def test_a_client_without_brokers_is_woken_all_the_same(monkeypatch):
    monkeypatch.setattr(clock, "ANSWER_SECONDS", 0.1)
    clock.wake(Producer({"bootstrap.servers": "127.0.0.1:1", "log_level": 0}))


class Control:
    def __init__(self) -> None:
        self.ended = 0

    def beat(self, *_) -> str:
        return "running"

    def end(self) -> None:
        self.ended += 1


@pytest.mark.parametrize("comes_round", [True, False])
def test_a_poll_that_does_not_return(comes_round, settings, monkeypatch):
    settings.TKCONS = {"REVOKE_SECONDS": 0.0, "HEARTBEAT_SECONDS": 0.01}
    monkeypatch.setattr(runner, "HANG_SECONDS", 0.2)
    ended = threading.Event()
    control = Control()
    made = Runner(Spec("g", ("t",), object), control, on_hang=ended.set)
    made._pulse.start()
    session = made._session = SimpleNamespace(
        outdated=False, ending=False, partitions=list, error="", assignment=SimpleNamespace(stored=0), worker=None
    )
    made._clock_put_back()
    assert session.outdated
    if comes_round:
        session.ending = True
        assert not ended.wait(0.5)
        assert not made.hangs
        made._pulse.end()
    else:
        assert ended.wait(5)
        assert made.hangs
    eventually(lambda: control.ended == 1)


class Hanging:
    """As much of a runner as a web process sees."""

    made: list["Hanging"]

    def __init__(self, *_) -> None:
        self.hangs = False
        self.stopped = threading.Event()
        self.made.append(self)

    def run(self) -> None:
        self.stopped.wait(10)

    def stop(self) -> None:
        self.stopped.set()


def test_a_web_process_gives_its_group_to_another_runner(monkeypatch):
    monkeypatch.setattr(Hanging, "made", [], raising=False)
    monkeypatch.setattr(web, "Runner", Hanging)
    monkeypatch.setattr(web.groups, "spec", lambda name: name)
    supervisor = object.__new__(web.Supervisor)
    supervisor._runners = {}
    supervisor._ensure("g")
    supervisor._ensure("g")
    assert len(Hanging.made) == 1
    Hanging.made[0].hangs = True
    supervisor._ensure("g")
    assert [runner.stopped.is_set() for runner in Hanging.made] == [True, False]
    Hanging.made[1].stop()
