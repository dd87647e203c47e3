"""A topic, not the first, that is deleted and made again, and that grows; both while messages come in."""

import time

from tests.faults.soak.system import STORES, System


def a_topic_is_made_again(system: System) -> None:
    """What was confirmed before may not go with it: it is waited for until it is stored."""
    stand, topic = system.stand, system.second_topic
    stand.journal_of(topic).mark("all stored")
    if not stand.wait_through(*STORES, topic=topic, deadline=time.monotonic() + 90):
        stand.broke("recovery", "the second topic was not stored in 90 s")
    stand.delete_topic(topic)
    time.sleep(system.draw.uniform(0, 4))
    stand.make_topic(3, topic)
    stand.journal_of(topic).mark("topic made again")


def a_topic_grows(system: System) -> None:
    """Messages are in the new partition before anybody reads it."""
    count = system.stand.count_partitions(system.second_topic) + 1
    system.stand.add_partitions(count, system.second_topic)
    with system.stand.records(count, system.second_topic, rate=20):
        time.sleep(3)


FAULTS = [a_topic_is_made_again, a_topic_grows]
