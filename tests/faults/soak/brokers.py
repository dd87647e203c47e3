"""Brokers that die, hang, and move leaders about."""

import time

from tests.faults.soak.system import System
from tests.faults.stand import eventually

DOWN_SECONDS = 60


def a_broker_dies(system: System) -> None:
    node = system.draw.randrange(3)
    system.stand.kafka.kill(node)
    time.sleep(system.draw.uniform(0, 6))
    system.stand.kafka.restart(node)
    wait_in_sync(system)


def a_broker_hangs(system: System) -> None:
    node = system.draw.randrange(3)
    system.stand.kafka.pause(node)
    time.sleep(system.draw.uniform(1, 8))
    system.stand.kafka.resume(node)
    wait_in_sync(system)


def all_brokers_die(system: System) -> None:
    _all_die(system, 0)


def all_brokers_are_down(system: System) -> None:
    _all_die(system, DOWN_SECONDS)


def _all_die(system: System, seconds: float) -> None:
    for node in range(3):
        system.stand.kafka.kill(node)
    time.sleep(seconds)
    for node in range(3):
        system.stand.kafka.restart(node)
    wait_in_sync(system)


def leaders_move(system: System) -> None:
    system.stand.move_leaders()


def the_dead_letter_topic_is_away(system: System) -> None:
    """It wants three copies, and a broker is away: partitions with poison wait."""
    system.stand.configure(system.dead_topic, "min.insync.replicas", "3")
    node = system.draw.randrange(3)
    system.stand.kafka.kill(node)
    time.sleep(system.draw.uniform(8, 16))
    system.stand.kafka.restart(node)
    wait_in_sync(system)
    system.stand.configure(system.dead_topic, "min.insync.replicas", "2")


def wait_in_sync(system: System) -> None:
    """Until the next broker may die."""
    system.stand.kafka.wait(120)
    for topic in (system.stand.topic, system.second_topic, system.dead_topic):
        eventually(lambda topic=topic: system.stand.in_sync(topic), 120)


FAULTS = [
    a_broker_dies,
    a_broker_hangs,
    all_brokers_die,
    all_brokers_are_down,
    leaders_move,
    the_dead_letter_topic_is_away,
]
