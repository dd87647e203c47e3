"""What a consumer instance has fetched and not yet given, and how far what it gave reaches."""

from collections import deque
from collections.abc import Iterable
from typing import Any

from confluent_kafka import Message, TopicPartition

from tkrest import formats
from tkrest.conf import settings
from tkrest.errors import NotJson

Name = tuple[str, int]


class Fetched:
    """Messages of the partitions that are held, in the order they came. For one thread at a time; `held` for any."""

    def __init__(self) -> None:
        self.held: frozenset[Name] = frozenset()  # partitions whose records are the instance's
        self.unbegun: frozenset[Name] = frozenset()  # of these, those where it is not known yet where to go on
        self.lost: frozenset[Name] = frozenset()  # since they are held, Kafka did not have their offset
        self._waiting: deque[Message] = deque()
        self._given: dict[Name, int] = {}  # the offset after the last record given, where it is not committed

    @property
    def waiting(self) -> int:
        """How many messages wait."""
        return len(self._waiting)

    def hold(self, names: Iterable[Name]) -> None:
        """These partitions are the instance's too; their messages are, once they have begun."""
        held = frozenset(names)
        self.held |= held
        self.unbegun |= held
        self.lost -= held

    def lose(self, name: Name) -> None:
        """Kafka does not have this partition's offset: it begins anew, and not at the group's."""
        self.unbegun |= {name} & self.held
        self.lost |= {name} & self.held

    def begin(self, names: Iterable[Name]) -> None:
        """What comes of these partitions from now on comes from where the instance goes on."""
        self.unbegun -= frozenset(names)

    def drop(self, names: Iterable[Name]) -> None:
        """Forget these partitions: what waits of them, and what was given."""
        gone = frozenset(names)
        self.held -= gone
        self.unbegun -= gone
        self._waiting = deque(m for m in self._waiting if (m.topic(), m.partition()) not in gone)
        for name in gone:
            self._given.pop(name, None)

    def add(self, message: Message) -> None:
        """A message that waits from now on, unless its partition was taken away, or put elsewhere, on its way."""
        name = (message.topic(), message.partition())
        if name in self.held and name not in self.unbegun:
            self._waiting.append(message)

    def give(self, found: list[dict[str, Any]], size: int, max_bytes: int, embedded: str) -> tuple[int, bool]:
        """Move what waits into the answer `found` of so many bytes; give its new size, and whether it is full.

        At most max_bytes and MAX_RECORDS, but one record at least. Raises NotJson where the first one is not JSON.
        """
        while self._waiting:
            message = self._waiting[0]
            more = formats.size(message)
            if found and (size + more > max_bytes or len(found) >= settings.MAX_RECORDS):
                return size, True
            try:
                found.append(formats.from_message(message, embedded))
            except NotJson:
                if found:  # what is before it is given first
                    return size, True
                raise
            self._waiting.popleft()
            self._given[message.topic() or "", message.partition() or 0] = (message.offset() or 0) + 1
            size += more
        return size, size >= max_bytes

    def uncommitted(self) -> list[TopicPartition]:
        """The offsets after what was given."""
        return [TopicPartition(*name, offset) for name, offset in sorted(self._given.items())]

    def committed(self, offsets: Iterable[TopicPartition]) -> None:
        """These offsets are committed: what was given before them is no longer uncommitted."""
        for each in offsets:
            if self._given.get((each.topic, each.partition), each.offset + 1) <= each.offset:
                del self._given[each.topic, each.partition]

    def clear(self) -> None:
        """Nothing waits any more."""
        self._waiting.clear()
