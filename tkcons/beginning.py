"""Where a group began, told to Kafka beside its offsets: a sink that has lost its positions begins there again."""

import re

from confluent_kafka import TopicPartition

from tkcons.sinks.base import Place

# Kafka keeps a string with each committed offset, of up to 4,096 bytes (offset.metadata.max.bytes).
_TOLD = re.compile(r"tkcons: began at ([0-9]{1,18}) of (\S{22})")


def tell(place: Place, offset: int, began_at: int | None) -> TopicPartition:
    """The offset as it is committed to Kafka. began_at: None where it is not known."""
    told = "" if began_at is None else f"tkcons: began at {began_at} of {place.topic_id}"
    return TopicPartition(place.topic, place.partition, offset, told)


def told(place: Place, committed: TopicPartition) -> int | None:
    """Where the group began in this place, by what it has told Kafka; None: another client has committed this.

    What it told of a topic that had this name before does not count: of this one everything is unread.
    """
    found = _TOLD.fullmatch(committed.metadata or "")
    if found is None:
        return None
    return int(found[1]) if found[2] == place.topic_id else 0
