"""Brokers that die, hang, and come back; topics that are made again and grow."""

import time

import pytest

from tests.faults.stand import LONG, Stand, eventually, protected_by

pytestmark = [pytest.mark.faults, pytest.mark.timeout(600)]


@protected_by("acknowledgement", "missing")
def test_brokers_die_and_leaders_move(stand: Stand):
    """kill -9 of a leader, every other one after it has hung for a while; then leaders move back, all under load."""
    stand.make_topic()
    webs = [stand.web(workers=2), stand.web()] if LONG else [stand.web(workers=2)]
    stand.consume("database", "file", processes=2)
    with stand.clients(*webs):
        stand.wait_stored(50)
        for number in range(5 if LONG else 1):
            node = stand.leader(stand.draw.randrange(3))
            with stand.fault(f"kill -9 of broker {node}"):
                if number % 2 == 0:
                    stand.kafka.pause(node)
                    time.sleep(1.5)
                stand.kafka.kill(node)
                stand.wait_stored(50)
                stand.kafka.restart(node)
                stand.kafka.wait(90)
                eventually(stand.in_sync)
                stand.move_leaders()
            stand.wait_stored(50)
    stand.verdict("database", "file")


@pytest.mark.long
@protected_by("acknowledgement", "missing")
def test_all_brokers_die_at_once(stand: Stand):
    stand.make_topic()
    web = stand.web(workers=2)
    stand.consume("database", "file", processes=2)
    with stand.clients(web):
        stand.wait_stored(50)
        for _ in range(2):
            with stand.fault("kill -9 of all brokers"):
                for node in range(3):
                    stand.kafka.pause(node)
                time.sleep(1)
                for node in range(3):
                    stand.kafka.kill(node)
                for node in range(3):
                    stand.kafka.restart(node)
                stand.kafka.wait(90)
            stand.wait_stored(50)
    stand.verdict("database", "file")


@protected_by("outbox", "missing")
def test_all_brokers_are_down_for_a_while(stand: Stand):
    """Direct requests get their answers in bounded time; what the outbox took is stored when the brokers are back."""
    stand.make_topic()
    web = stand.web()
    stand.relay()
    stand.consume("database", processes=2)
    with stand.clients(web, clients=2), stand.clients(web, path="/publish", clients=2, pause=0.2):
        stand.wait_stored(50)
        with stand.fault("all brokers down"):
            for node in range(3):
                stand.kafka.kill(node)
            time.sleep(60 if LONG else 12)
            for node in range(3):
                stand.kafka.restart(node)
            stand.kafka.wait(90)
        stand.wait_stored(50)
    stand.verdict("database")
    stand.answered_in_time()


@protected_by("event_ids", "duplicates")
def test_an_unknown_outcome_is_settled_by_an_idempotency_key(stand: Stand):
    """Brokers that hang longer than a request waits append what they had got when they wake; the repeat comes too."""
    stand.make_topic()
    web = stand.web()
    stand.consume("database", "handler")
    with stand.clients(web, keys=True, clients=8) as load:
        stand.wait_stored(50)
        with stand.fault("brokers hang"):
            for node in range(3):
                stand.kafka.pause(node)
            time.sleep(12)
            for node in range(3):
                stand.kafka.resume(node)
        before = load.confirmed
        eventually(lambda: load.confirmed > before + 20)
        stand.wait_stored(50)
    stand.verdict("database", "handler")


@protected_by("topic_id", "missing")
def test_a_topic_is_deleted_and_made_again(stand: Stand):
    """Under load. Confirmed messages of the deleted topic that were not stored yet are counted apart."""
    stand.make_topic()
    web = stand.web()
    stand.consume("database", "file")
    with stand.clients(web):
        stand.wait_stored(200)
        with stand.fault("topic deleted"):
            stand.delete_topic()
            time.sleep(1)
            stand.make_topic()
            stand.journal.mark("topic made again")
        time.sleep(5)
    stand.verdict("database", "file")


@pytest.mark.long
@protected_by("growth", "missing")
def test_partitions_are_added(stand: Stand):
    """What comes into a new partition before anybody reads it is stored too, though the group began at the end."""
    stand.make_topic()
    stand.consume("database", processes=2, FAULTS_START="latest")
    eventually(lambda: len(stand.positions()) == 3)
    with stand.records():
        stand.wait_stored(100)
        with stand.fault("partitions added"):
            stand.add_partitions(6)
            with stand.records(partitions=6):
                time.sleep(5)
        stand.wait_stored(100)
    stand.verdict("database")
