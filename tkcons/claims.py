"""Claims: the right to write to partitions, taken from the sink; where it knows none of a topic's, where to begin."""

import logging
from collections.abc import Iterable
from datetime import datetime

from confluent_kafka import Consumer, KafkaException, TopicPartition
from django.db import close_old_connections

from tk import topics
from tk.errors import UnknownTopic
from tkcons.assignment import Name
from tkcons.beginning import tell, told
from tkcons.conf import settings
from tkcons.groups import Spec
from tkcons.seeking import at_time
from tkcons.sinks.base import Claim, Place, Sink

logger = logging.getLogger(__name__)

ANSWER_SECONDS = 5.0  # how long a question to the broker may take


class Claims:
    """Takes claims for one group. Only its polling thread calls: the consumer takes one call at a time."""

    def __init__(self, spec: Spec, sink: Sink, consumer: Consumer) -> None:
        self._spec = spec
        self._sink = sink
        self._consumer = consumer
        self._places: dict[Name, Place] = {}
        self._begun: dict[Place, int] = {}

    def take(self, names: Iterable[Name]) -> dict[Place, Claim]:
        """Claim these partitions (topic and number), under their topics' ids of this moment.

        Where the group begins is recorded before the first claim, for all partitions of a topic.
        Raises KafkaException, and what tk.topics.get and the sink raise.
        """
        close_old_connections()  # after a failure the next try gets a new one
        places = [_place(name) for name in names]
        claims = self._sink.claim(places)
        new = {place.topic for place in places if place not in claims}
        for topic in sorted(new):
            self._sink.begin(self._starts(topic))
        if new:
            claims = self._sink.claim(places)
        for place in places:
            if place not in claims:  # the broker that was asked is behind the one that assigned it
                raise UnknownTopic(f"Kafka does not tell of partition {place.partition} of {place.topic!r} yet.")
        self._places |= {(place.topic, place.partition): place for place in places}
        self._begun |= self._sink.begun(places)
        return claims

    def renew(self, name: Name) -> Claim | None:
        """Claim a partition anew; None where the group knows nothing of the topic that has this name now."""
        place = _place(name)
        return self._sink.claim([place]).get(place)

    def tell(self, moved: dict[Name, int]) -> list[TopicPartition]:
        """These positions, as they are committed to Kafka."""
        return [tell(self._places[name], offset, self._begun.get(self._places[name])) for name, offset in moved.items()]

    def _starts(self, topic: str) -> dict[Place, int]:
        """Where to begin in every partition of the topic, so that no member resolves it a second time.

        Kafka's committed offsets count at the first contact with this topic alone; for a topic made again under its
        name, and for partitions that it grew, everything is unread.
        """
        seen = topics.get(topic)
        places = [Place(topic, seen.id, partition) for partition in range(seen.partitions)]
        first = not self._sink.knows(topic)
        committed, begun = self._at_kafka(places) if first else ({}, {})
        starts = {}
        for place in places:
            where = TopicPartition(topic, place.partition)
            low, high = self._consumer.get_watermark_offsets(where, timeout=ANSWER_SECONDS)
            starts[place] = low
            if place in committed:
                starts[place] = committed[place]
            elif place in begun:
                starts[place] = max(begun[place], low)
            elif first:
                starts[place] = self._start(place, low, high)
        return starts

    def _at_kafka(self, places: list[Place]) -> tuple[dict[Place, int], dict[Place, int]]:
        """What an earlier consumer has committed; and where we had begun, if Kafka was told it.

        The sink has then lost its positions, and with them what it had stored since.
        """
        asked = [TopicPartition(place.topic, place.partition) for place in places]
        answer = self._consumer.committed(asked, timeout=ANSWER_SECONDS)
        if failed := next((p.error for p in answer if p.error is not None), None):
            raise KafkaException(failed)  # not the same as none committed: START might pass messages over
        committed, begun = {}, {}
        for place, at in zip(places, answer, strict=True):
            if (start := told(place, at)) is not None:
                begun[place] = start
            elif at.offset >= 0:
                committed[place] = at.offset
        for what, offsets in [
            ("begins at Kafka's offsets", committed),
            ("positions are lost: begins again where it had begun", begun),
        ]:
            if offsets:
                partitions = [place.partition for place in offsets]
                where = {"group": self._spec.name, "topic": places[0].topic, "partitions": partitions}
                logger.warning(what, extra={"action": "begin", **where})
        return committed, begun

    def _start(self, place: Place, low: int, high: int) -> int:
        start = settings.START if self._spec.start is None else self._spec.start
        if isinstance(start, datetime):
            return at_time(self._consumer, place.topic, place.partition, start, high)
        if isinstance(start, int):
            return min(max(start, low), high)
        return high if start == "latest" else low


def _place(name: Name) -> Place:
    """The partition under its topic's id of this moment."""
    topic, partition = name
    return Place(topic, topics.get(topic, 0).id, partition)
