"""Messages that Kafka deleted before they were stored: the one case in which a group goes on past what it has not read.

It stops there by itself and says so; only a person can decide that what is lost is lost.
"""

import logging

from confluent_kafka import Consumer, TopicPartition

from tk import topics
from tk.access import Caller, require
from tk.client import client_config
from tkcons import groups
from tkcons.errors import GroupRunning
from tkcons.sinks.base import Batch, Place

logger = logging.getLogger(__name__)

ANSWER_SECONDS = 10.0


def skip(name: str, caller: Caller) -> dict[Place, tuple[int, int]]:
    """Move the group's positions past what Kafka has no longer; give first and end offset of what is lost, by place.

    Raises Unauthenticated, Forbidden, UnknownGroup, GroupRunning while a process runs the group, NotSent or UnknownTopic
    as Kafka answers, SinkUnavailable or SinkLocked.
    """
    require(caller, groups.CONTROL)
    spec = groups.spec(name)
    if groups.live_members().filter(group_id=name).exclude(state="stopped").exists():
        raise GroupRunning(f"{name} is running: stop it first (manage.py group stop {name}).")
    sink = spec.sink()
    sink.open()
    consumer = Consumer(client_config({"group.id": name, "enable.auto.commit": False}))
    lost: dict[Place, tuple[int, int]] = {}
    try:
        for topic in spec.topics:
            seen = topics.get(topic, 0)
            places = [Place(topic, seen.id, partition) for partition in range(seen.partitions)]
            for place, claim in sink.claim(places).items():
                low, _ = consumer.get_watermark_offsets(TopicPartition(topic, place.partition), timeout=ANSWER_SECONDS)
                if claim.next_offset < low:
                    sink.write([Batch(place, claim, [], low)])
                    lost[place] = (claim.next_offset, low)
    finally:
        consumer.close()
        sink.close()
    for place, (first, end) in lost.items():
        logger.warning(
            "skipped expired messages",
            extra={"action": "skip", "topic": place.topic, "partition": place.partition, "offset": first, "end": end},
        )
    return lost
