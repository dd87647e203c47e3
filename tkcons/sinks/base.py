"""What a sink is: it stores batches, and with each batch, in the same atomic step, how far it has come."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from confluent_kafka import Message
from django.utils.translation import gettext_noop as _

from tkcons.errors import CannotSeek


class Place(NamedTuple):
    """A partition of one topic; a topic made again under its name is another, for it has another id."""

    topic: str
    topic_id: str
    partition: int


class Claim(NamedTuple):
    """A right to write to a place: the generation of the claim and the next offset to store."""

    generation: int
    next_offset: int


class Batch(NamedTuple):
    """Messages of one place, in order, never empty.

    claim: what the sink must still have for this place, or it refuses the write.
    end: the position after the batch. Compaction and transactions leave gaps: it may be past the number of messages.
    """

    place: Place
    claim: Claim
    messages: Sequence[Message]
    end: int


class Sink(ABC):
    """Stores the messages of one consumer group.

    One thread calls `write`; `claim`, `begin` and `tick` come from another. A subclass takes its options as keyword
    arguments from TKCONS["SINKS"][name]. Every method may raise SinkUnavailable: the caller tries again.

    alone: whether each partition's batch comes in a write of its own, so that one's failure is not the others'.
    """

    alone = False

    def __init__(self, group: str, **options: Any) -> None:
        self.group = group
        if options:
            raise TypeError(f"{type(self).__name__} has no option {', '.join(options)}")

    def open(self) -> None:  # noqa: B027  most sinks need no opening
        """Get ready. Raises SinkLocked when another process writes here, SinkDamaged when data is missing."""

    @abstractmethod
    def claim(self, places: Iterable[Place]) -> dict[Place, Claim]:
        """Take these places over: raise each one's generation, so that an older owner's write is refused.

        Places that have no position yet are missing in the answer.
        """

    @abstractmethod
    def begin(self, starts: dict[Place, int]) -> None:
        """Record where the group begins in these places; a place that has a position already keeps it."""

    @abstractmethod
    def knows(self, topic: str) -> bool:
        """Whether the group has a position in any topic of this name, under whatever id."""

    def begun(self, places: Iterable[Place]) -> dict[Place, int]:
        """Where the group began in these places; {}: that is not kept.

        Kafka is told it: a sink that has lost its positions, as one restored to a time before the group began, begins
        there again and not at Kafka's offsets.
        """
        return {}

    @abstractmethod
    def write(self, batches: Sequence[Batch]) -> int | None:
        """Store all of these batches and advance their positions, or store nothing and raise.

        Raises StaleOwner when a place has another claim by now. A sink that takes its batches `alone` may raise
        RetryLater: the partition rests and comes again from its position, which may have moved on into the batch.
        It may also give the position that it has come to, where that is inside the batch: the rest comes again at once.
        """

    def seek(self, place: Place, claim: Claim, offset: int) -> None:
        """Move the position to this offset: what is stored from there on is taken out. Raises StaleOwner, CannotSeek."""
        if offset < claim.next_offset:
            raise CannotSeek(_("%(sink)s cannot take back what it has stored."), sink=type(self).__name__)
        if offset > claim.next_offset:
            self.write([Batch(place, claim, [], offset)])

    def overdue(self) -> str:
        """What has been under way for too long, if anything has: the runner then gives up on this sink."""
        return ""

    def tick(self) -> None:  # noqa: B027
        """Called about once a second by the thread that writes."""

    def close(self) -> None:  # noqa: B027
        """Let everything go; `open` may follow."""
