"""Consumers, web servers and relays that die, sleep, are deployed and pushed about; and the clock that all go by."""

import os
import signal
import time
from contextlib import suppress

import psutil

from tests.faults.soak.system import System
from tests.faults.stand import GROUPS, SECOND, SECONDS, eventually
from tests.faults.strangers import strangers
from tests.faults.test_consumers import DATABASE, FILE, HANDLER

LETTER = ["letter.made", "letter.sent", "letter.stored", "letter.committed"]
LEAVE_SECONDS = 10.0  # until a consumer whose poll does not return has ended

# Consumers.


def _member(system: System) -> psutil.Process:
    """One that polls: a parent of several does not."""
    parent = system.draw.choice(system.consumers)
    children = psutil.Process(parent.pid).children()
    return system.draw.choice(children) if children else psutil.Process(parent.pid)


def _wait_dead(system: System, pid: int) -> None:
    """The end of a process with many threads takes its time: until then it counts as running, and nobody starts another."""
    for child in system.consumers:
        if child.pid == pid:
            child.wait()
            return
    with suppress(psutil.NoSuchProcess):
        psutil.Process(pid).wait(SECONDS)  # its supervisor's


def a_member_dies(system: System) -> None:
    member = _member(system)
    with suppress(psutil.NoSuchProcess):
        member.kill()
    _wait_dead(system, member.pid)


def a_member_dies_at_a_step(system: System) -> None:
    _wait_dead(system, system.stand.kill_at(system.draw.choice([*DATABASE, *FILE, *HANDLER])))


def a_member_dies_inside_dead_lettering(system: System) -> None:
    _wait_dead(system, system.stand.kill_at(system.draw.choice(LETTER)))


def a_member_sleeps(system: System) -> None:
    """Inside a transaction too; it wakes after its partitions have moved, or before."""
    pid = system.stand.kill_at(system.draw.choice([*DATABASE, *FILE, *HANDLER]), action="stop")
    time.sleep(system.draw.uniform(1, 12))
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGCONT)


def a_handler_is_slow(system: System) -> None:
    """Slower than max.poll.interval."""
    system.stand.kill_at("handler.slow", action="sleep 8")


def a_consumer_is_deployed(system: System) -> None:
    number = system.draw.randrange(2)
    system.stand.wait_started(system.consumers[number])
    system.end(system.consumers[number])


def a_storm_of_rebalances(system: System) -> None:
    """Strangers join and leave each second, and the product's own a few seconds apart."""
    groups = [(GROUPS | SECOND)[name] for name in ("database", "handler", "sqlite")]
    with strangers(system.stand.kafka.bootstrap, system.stand.topic, groups):
        for _ in range(2):
            more = system.consume()
            system.stand.wait_started(more)
            time.sleep(system.draw.uniform(1, 4))
            system.end(more)


# Web servers.


def a_web_server_is_deployed(system: System) -> None:
    system.end(system.draw.choice(system.webs).child)


def a_web_server_dies(system: System) -> None:
    web = system.draw.choice(system.webs)
    for process in [*psutil.Process(web.child.pid).children(recursive=True), psutil.Process(web.child.pid)]:
        process.kill()
    web.child.wait()


def a_forked_worker_dies(system: System) -> None:
    """Another is forked from the preloaded parent."""
    parent = psutil.Process(system.forked.child.pid)
    before = parent.children()
    with suppress(psutil.NoSuchProcess):
        system.draw.choice(before).kill()
    eventually(lambda: len(set(parent.children()) - set(before)) == 1)


# Relays.


def a_relay_dies(system: System) -> None:
    child = system.draw.choice(system.relays)
    child.signal(signal.SIGKILL)
    child.wait()


def a_relay_dies_at_a_step(system: System) -> None:
    system.stand.kill_at(system.draw.choice(["relay.acknowledged", "relay.marked"]))
    eventually(lambda: not all(child.alive for child in system.relays))


def a_relay_sleeps(system: System) -> None:
    pid = system.stand.kill_at("relay.acknowledged", action="stop")
    time.sleep(system.draw.uniform(1, 10))
    os.kill(pid, signal.SIGCONT)


# All of them.


def the_clock_jumps(system: System) -> None:
    for hours in system.draw.choice([(1, 0), (-1, 0), (1, -1, 0)]):
        system.clock.put(hours)
        time.sleep(2)
        system.stand.wait_stored(20)
    time.sleep(LEAVE_SECONDS)


FAULTS = [
    a_member_dies,
    a_member_dies_at_a_step,
    a_member_dies_inside_dead_lettering,
    a_member_sleeps,
    a_handler_is_slow,
    a_consumer_is_deployed,
    a_storm_of_rebalances,
    a_web_server_is_deployed,
    a_web_server_dies,
    a_forked_worker_dies,
    a_relay_dies,
    a_relay_dies_at_a_step,
    a_relay_sleeps,
    the_clock_jumps,
]
