"""Consumers that die, hang, sleep, come back, and are pushed about."""

import os
import signal
import time
from contextlib import suppress

import psutil
import pytest

from tests.faults.stand import GROUPS, LONG, Stand, eventually, protected_by
from tests.faults.strangers import strangers

pytestmark = [pytest.mark.faults, pytest.mark.timeout(400)]

DATABASE = ["database.begun", "position.moved", "database.written", "database.committed", "offsets.begun"]
FILE = ["file.begun", "file.appended", "file.synced", "file.recorded", "file.committed"]
HANDLER = ["handler.begun", "handler.called", "handler.committed"]


@protected_by("one_transaction", "missing")
def test_kill_9_at_each_step_of_the_database(stand: Stand):
    kill_at_each(stand, DATABASE, "database", "handler")


@pytest.mark.long
@protected_by("cutting_off", "duplicates")
def test_kill_9_at_each_step_of_a_file(stand: Stand):
    kill_at_each(stand, FILE, "file", "text")


@pytest.mark.long
@protected_by("one_transaction", "missing")
def test_kill_9_at_each_step_of_a_handler(stand: Stand):
    kill_at_each(stand, HANDLER, "handler")


def kill_at_each(stand: Stand, steps: list[str], *stores: str) -> None:
    stand.make_topic()
    stand.consume(*stores, processes=2)
    with stand.records():
        stand.wait_stored(50, stores[0])
        for step in steps:
            with stand.fault(step):
                stand.kill_at(step)
            stand.wait_stored(50, stores[0])
    stand.verdict(*stores)


@protected_by("letter_id", "duplicates")
def test_kill_9_inside_dead_lettering(stand: Stand):
    stand.make_topic()
    stand.make_topic(1, f"{stand.topic}.dead")
    stand.consume("handler", processes=2)
    with stand.records(poison=40):
        stand.wait_stored(50, "handler")
        for step in ("letter.made", "letter.sent", "letter.stored", "letter.committed"):
            with stand.fault(step):
                stand.kill_at(step)
            stand.wait_stored(50, "handler")
    stand.verdict("handler", "letters", "letters sent", poison=True)


@protected_by("compare_and_set", "duplicates")
def test_a_zombie_wakes_after_its_partitions_moved(stand: Stand):
    zombie(stand, "database.begun")


@pytest.mark.long
@protected_by("compare_and_set", "duplicates")
def test_a_zombie_wakes_after_its_commit(stand: Stand):
    """With the next batch in hand, which it writes before it hears that its partitions are another's."""
    zombie(stand, "database.committed", next_in_hand=True)


@pytest.mark.long
@protected_by("bounded_waits", "recovery")
def test_a_zombie_hangs_inside_its_transaction(stand: Stand):
    zombie(stand, "database.written")


def zombie(stand: Stand, step: str, *, next_in_hand: bool = False) -> None:
    """next_in_hand: it has read on when it is stopped, and stores that before it lets go of what it has lost."""
    stand.make_topic()
    for _ in range(2):
        stand.consume("database")
    with stand.records():
        stand.wait_stored(50)
        with stand.fault(step):
            if next_in_hand:
                pid = stand.kill_at(step, action="sleep 5")  # over when it wakes: a session's timeout is 4 s
                time.sleep(1)  # while the thread that polls reads on
                os.kill(pid, signal.SIGSTOP)
            else:
                pid = stand.kill_at(step, action="stop")
            stand.wait_everywhere(100)  # the other has them all, after the session's timeout
            if next_in_hand:
                stand.steps.arm("leaving.begun", "sleep 3")  # the first to leave is the zombie
            os.kill(pid, signal.SIGCONT)
        stand.wait_stored(200)
    stand.verdict("database")


@pytest.mark.long
@protected_by("stored_position", "duplicates")
def test_a_storm_of_rebalances(stand: Stand):
    """Members join and leave each second: strangers that only take partitions away, and the product's own."""
    stand.make_topic(6)
    stand.consume("database", "handler", processes=2)
    groups = [GROUPS[name] for name in ("database", "handler")]
    with stand.records(partitions=6, rate=50), stand.fault("storm"):
        stand.wait_stored(50)
        with strangers(stand.kafka.bootstrap, stand.topic, groups):
            for _ in range(4):
                more = stand.consume("database", "handler")
                time.sleep(5)
                stand.end(more)
    stand.verdict("database", "handler")


@pytest.mark.long
@protected_by("poll_thread", "membership")
def test_a_handler_slower_than_max_poll_interval(stand: Stand):
    """Nothing is lost either way; but a member that is thought dead has its work taken away, again and again."""
    stand.make_topic()
    for _ in range(2):
        stand.consume("handler", FAULTS_POLL_MS="5000")
    with stand.records():
        stand.wait_everywhere(50)
        before = sorted((row, generation) for row, _, generation in stand.positions())
        for _ in range(2):
            with stand.fault("slow handler"):
                stand.kill_at("handler.slow", action="sleep 12")
                time.sleep(13)
            stand.wait_stored(200, "handler")
        after = sorted((row, generation) for row, _, generation in stand.positions())
    stand.verdict("handler")
    if after != before:
        stand.broke("membership", f"generations were {before}, are {after}")


@protected_by("orderly_end", "exit codes")
def test_sigterm_under_load(stand: Stand):
    """A deployment: each process is ended and another started, while requests come in."""
    stand.make_topic()
    webs = [stand.web(), stand.web()]
    consumers = [stand.consume() for _ in range(2)]
    codes = []
    rounds = 10 if LONG else 1
    with stand.clients(*webs):
        stand.wait_stored(50)
        for _ in range(rounds):
            for number in range(2):
                with stand.fault("SIGTERM"):
                    codes.append(stand.end(webs[number].child))
                    webs[number] = stand.web(webs[number].port)
                    codes.append(stand.end(consumers[number]))
                    consumers[number] = stand.consume()
                    webs[number].wait()
                stand.wait_stored(20)
    stand.verdict(*GROUPS)
    if any(codes):
        stand.broke("exit codes", str(codes))


@pytest.mark.long
@protected_by("stored_position", "duplicates")
def test_members_are_killed_and_replaced(stand: Stand):
    stand.make_topic(6)
    parent = stand.consume("database", "file", "handler", processes=3)
    with stand.records(partitions=6):
        stand.wait_stored(50)
        for _ in range(8):
            with stand.fault("kill -9 of a member"):
                children = psutil.Process(parent.pid).children()
                with suppress(psutil.NoSuchProcess):
                    stand.draw.choice(children).kill()
            stand.wait_stored(100)
    eventually(lambda: len(psutil.Process(parent.pid).children()) == 3, 60)
    stand.verdict("database", "file", "handler")
