"""Messages that Kafka deleted before they were stored: the one case in which a group goes on past what it has not read.

It stops there by itself and says so; only a person can decide that what is lost is lost.
"""

import logging

from confluent_kafka import TopicPartition

from tk import topics, trail
from tk.access import Caller
from tkcons.models import Group
from tkcons.seeking import ANSWER_SECONDS, stopped
from tkcons.sinks.base import Batch, Place

logger = logging.getLogger(__name__)


def skip(name: str, caller: Caller) -> dict[Place, tuple[int, int]]:
    """Move the group's positions past what Kafka has no longer; give first and end offset of what is lost, by place.

    Raises what tkcons.seeking.stopped raises, NotSent or UnknownTopic as Kafka answers.
    """
    lost: dict[Place, tuple[int, int]] = {}
    with stopped(name, caller) as (spec, sink, consumer):
        for topic in spec.topics:
            seen = topics.get(topic, 0)
            places = [Place(topic, seen.id, partition) for partition in range(seen.partitions)]
            for place, claim in sink.claim(places).items():
                low, _ = consumer.get_watermark_offsets(TopicPartition(topic, place.partition), timeout=ANSWER_SECONDS)
                if claim.next_offset < low:
                    sink.write([Batch(place, claim, [], low)])
                    lost[place] = (claim.next_offset, low)
    if lost:
        told = ", ".join(f"{place.topic}[{place.partition}] {first} to {end}" for place, (first, end) in lost.items())
        trail.note(caller, name, f"skipped what had expired: {told}", row=Group(name=name))
    for place, (first, end) in lost.items():
        logger.warning(
            "skipped expired messages",
            extra={"action": "skip", "topic": place.topic, "partition": place.partition, "offset": first, "end": end},
        )
    return lost
