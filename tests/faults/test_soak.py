"""Everything at once for half an hour: a fault every 20 s, drawn from all of them.

SOAK_SECONDS: how long (default 1,800). FAULTS_SEED: repeats a run's faults and loads.
"""

import os
import signal
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress

import httpx
import psutil
import pytest

from tests.faults.stand import LONG, Stand, eventually
from tests.faults.test_consumers import DATABASE, FILE, HANDLER
from tests.faults.test_requests import deaf_viewer, huge, leavers
from tklocal.child import Child

SECONDS = float(os.environ.get("SOAK_SECONDS", "1800"))
EVERY = 20.0
LETTER = ["letter.made", "letter.sent", "letter.stored", "letter.committed"]

pytestmark = [pytest.mark.faults, pytest.mark.long, pytest.mark.timeout(SECONDS * 2 + 1_200)]


class Everything:
    """Two web servers, two relays, three consumer processes, and what may happen to them."""

    def __init__(self, stand: Stand) -> None:
        self.stand = stand
        self.webs = [stand.web(workers=2), stand.web()]
        self.relays = [stand.relay() for _ in range(2)]
        self.consumers = [stand.consume(processes=2), stand.consume()]
        self.faults: list[Callable[[], None]] = [
            self.a_broker_dies,
            self.a_broker_hangs,
            self.all_brokers_die,
            stand.move_leaders,
            self.a_member_dies,
            self.a_member_dies_at_a_step,
            self.a_member_sleeps,
            self.a_member_joins_and_leaves,
            self.a_consumer_is_deployed,
            self.a_web_server_is_deployed,
            self.a_web_server_dies,
            self.clients_go_away,
            self.viewers_never_read,
            self.a_body_is_huge,
            self.a_relay_dies,
            self.a_relay_dies_at_a_step,
            self.a_relay_sleeps,
            stand.cut_connections,
            self.postgresql_dies,
            self.postgresql_is_stopped,
            self.a_file_cannot_be_written,
            self.a_handler_is_slow,
        ]

    # Brokers.

    def a_broker_dies(self) -> None:
        node = self.stand.draw.randrange(3)
        self.stand.kafka.kill(node)
        time.sleep(self.stand.draw.uniform(0, 6))
        self.stand.kafka.restart(node)
        self._brokers_are_back()

    def a_broker_hangs(self) -> None:
        node = self.stand.draw.randrange(3)
        self.stand.kafka.pause(node)
        time.sleep(self.stand.draw.uniform(1, 8))
        self.stand.kafka.resume(node)
        self._brokers_are_back()

    def all_brokers_die(self) -> None:
        for node in range(3):
            self.stand.kafka.kill(node)
        for node in range(3):
            self.stand.kafka.restart(node)
        self._brokers_are_back()

    def _brokers_are_back(self) -> None:
        self.stand.kafka.wait(120)
        eventually(self.stand.in_sync, 120)

    # Consumers.

    def _member(self) -> psutil.Process:
        """One that polls: a parent of several does not."""
        parent = self.stand.draw.choice(self.consumers)
        children = psutil.Process(parent.pid).children()
        return self.stand.draw.choice(children) if children else psutil.Process(parent.pid)

    def a_member_dies(self) -> None:
        with suppress(psutil.NoSuchProcess):
            self._member().kill()
        self._restart_consumers()

    def a_member_dies_at_a_step(self) -> None:
        self.stand.kill_at(self.stand.draw.choice([*DATABASE, *FILE, *HANDLER, *LETTER]))
        self._restart_consumers()

    def a_member_sleeps(self) -> None:
        step = self.stand.draw.choice([*DATABASE, *FILE, *HANDLER])
        pid = self.stand.kill_at(step, action="stop")
        time.sleep(self.stand.draw.uniform(1, 12))
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)

    def a_member_joins_and_leaves(self) -> None:
        more = self.stand.consume()
        self.stand.wait_started(more)
        time.sleep(self.stand.draw.uniform(0, 4))
        self._end(more)

    def a_consumer_is_deployed(self) -> None:
        number = self.stand.draw.randrange(2)
        self.stand.wait_started(self.consumers[number])
        self._end(self.consumers[number])
        self.consumers[number] = self.stand.consume(processes=2 - number)

    def _restart_consumers(self) -> None:
        for number, child in enumerate(self.consumers):
            if not child.alive:
                self.consumers[number] = self.stand.consume(processes=2 - number)

    def a_handler_is_slow(self) -> None:
        self.stand.kill_at("handler.slow", action="sleep 8")

    # Web servers and relays.

    def a_web_server_is_deployed(self) -> None:
        web = self.stand.draw.choice(self.webs)
        self._end(web.child)
        self._restart_webs()

    def a_web_server_dies(self) -> None:
        web = self.stand.draw.choice(self.webs)
        for process in [*psutil.Process(web.child.pid).children(recursive=True), psutil.Process(web.child.pid)]:
            process.kill()
        web.child.wait()
        self._restart_webs()

    def _restart_webs(self) -> None:
        for number, web in enumerate(self.webs):
            if not web.child.alive:
                self.webs[number] = self.stand.web(web.port, workers=2 - number)
                self.webs[number].wait()

    def clients_go_away(self) -> None:
        ending = threading.Event()
        leaving = threading.Thread(
            target=leavers, args=(self.stand, self.stand.draw.choice(self.webs), self.stand.unique(), ending)
        )
        leaving.start()
        time.sleep(self.stand.draw.uniform(1, 5))
        ending.set()
        leaving.join(30)

    def viewers_never_read(self) -> None:
        web = self.stand.draw.choice(self.webs)
        with ExitStack() as viewers:
            for number in range(50):
                viewers.enter_context(deaf_viewer(self.stand, web, number))
            time.sleep(self.stand.draw.uniform(2, 8))

    def a_body_is_huge(self) -> None:
        with httpx.Client(timeout=60, trust_env=False, headers={"Authorization": f"Bearer {self.stand.token}"}) as http:
            web = self.stand.draw.choice(self.webs)
            status = huge(http, f"{web.url}/tkprod?topic={self.stand.topic}", "text/plain")
        if not 400 <= status < 500:
            self.stand.broke("100 MB", f"answered {status}")

    def a_relay_dies(self) -> None:
        self.stand.draw.choice(self.relays).signal(signal.SIGKILL)
        self._restart_relays()

    def a_relay_dies_at_a_step(self) -> None:
        self.stand.kill_at(self.stand.draw.choice(["relay.acknowledged", "relay.marked"]))
        self._restart_relays()

    def a_relay_sleeps(self) -> None:
        pid = self.stand.kill_at("relay.acknowledged", action="stop")
        time.sleep(self.stand.draw.uniform(1, 10))
        os.kill(pid, signal.SIGCONT)

    def _restart_relays(self) -> None:
        eventually(lambda: not all(child.alive for child in self.relays))
        self.relays = [child if child.alive else self.stand.relay() for child in self.relays]

    def _end(self, child: Child) -> None:
        code = self.stand.end(child)
        if code:
            self.stand.broke("exit codes", f"{code} after SIGTERM")

    # Stores.

    def postgresql_dies(self) -> None:
        self.stand.servers.postgres.kill()
        self.stand.servers.postgres.start()

    def postgresql_is_stopped(self) -> None:
        self.stand.servers.postgres.stop()
        time.sleep(self.stand.draw.uniform(0, 10))
        self.stand.servers.postgres.start()

    def a_file_cannot_be_written(self) -> None:
        step, action = self.stand.draw.choice(
            [("file.write", "full"), ("file.write", "short"), ("file.appended", "fail")]
        )
        self.stand.kill_at(step, action=action)


@pytest.mark.skipif(not LONG, reason="make faults")
def test_everything_for_half_an_hour(stand: Stand):
    stand.make_topic(6)
    stand.make_topic(1, f"{stand.topic}.dead")
    running = Everything(stand)
    done: list[str] = []
    with (
        stand.clients(*running.webs, clients=3, poison=100),
        stand.clients(*running.webs, clients=2, keys=True),
        stand.clients(*running.webs, path="/publish", clients=3, pause=0.1),
    ):
        stand.wait_stored(50)
        ends = time.monotonic() + SECONDS
        while time.monotonic() < ends:
            began = time.monotonic()
            fault = stand.draw.choice(running.faults)
            done.append(fault.__name__)
            with stand.fault(fault.__name__):
                fault()
            stand.wait_stored(20)
            time.sleep(max(0.0, began + EVERY - time.monotonic()))
        stand.wait_stored(100)
    stand.verdict("database", "file", "text", seconds=180)
    stand.verdict("handler", "letters", "letters sent", poison=True, seconds=180)
    stand.said.append(f"{len(done)} faults in {SECONDS:g} s: {', '.join(sorted(set(done)))}")
