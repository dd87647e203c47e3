"""Where the brokers know a producer, so that they refuse what comes before its turn.

A broker that knows nothing of a producer takes whatever comes first. Where it refuses the first batch that the producer
sends to a partition, it takes the second, which may be on its way: the next event of a key would overtake the one that
was refused. So where the producer may not be known, one event of a lane goes, and the next when that one has arrived.
"""

import time

from tk.topics import Topic

SECONDS = 3_600.0  # a broker forgets a producer after producer.id.expiration.ms, a day; this one asks again far sooner
LANES = 100_000  # remembered at most; what a forgotten lane costs is one wait


class Contact:
    """One producer's: a topic is known when an event has arrived in each of its partitions; before that, lane by lane."""

    def __init__(self) -> None:
        self._partitions: dict[str, set[int]] = {}
        self._lanes: set[int] = set()
        self.firsts: set[int] = set()  # lanes that wait for the event that went first
        self._until = time.monotonic() + SECONDS

    def known(self, topic: Topic) -> bool:
        """Whether the producer is known in all of the topic's partitions: then nothing has to wait."""
        if time.monotonic() > self._until or len(self._lanes) > LANES:
            self._partitions.clear()
            self._lanes.clear()
            self._until = time.monotonic() + SECONDS
        return len(self._partitions.get(topic.name, ())) >= topic.partitions

    def first(self, lane: int) -> None:
        """An event of the lane has been handed to the producer."""
        if lane not in self._lanes:
            self.firsts.add(lane)

    def arrived(self, lane: int, topic: str, partition: int) -> None:
        """An event has been acknowledged."""
        if lane in self.firsts:
            self.firsts.remove(lane)
            self._lanes.add(lane)
            self._partitions.setdefault(topic, set()).add(partition)
