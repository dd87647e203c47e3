"""Rows as the database sink writes them, with no Kafka."""

from collections.abc import Iterable
from datetime import datetime

from django.utils import timezone

from tk.record import Headers, dump_headers
from tkcons import stored
from tkcons.models import Message, Position


def place(topic: str = "orders", partition: int = 0, group: str = "g", topic_id: str = "") -> Position:
    """A position; the same one each time."""
    return Position.objects.get_or_create(
        group=group,
        topic=topic,
        topic_id=topic_id or topic[:22],
        partition=partition,
        defaults={"start_offset": 0, "next_offset": 0},
    )[0]


def store(
    *values: str | bytes | None,
    topic: str = "orders",
    partition: int = 0,
    group: str = "g",
    topic_id: str = "",
    key: str | bytes | None = None,
    headers: Headers = (),
    at: datetime | None = None,
    skip: int = 0,
) -> Position:
    """Store these after what is there, `skip` offsets on, and move the position; gives it."""
    position = place(topic, partition, group, topic_id)
    first = position.next_offset + skip
    Message.objects.bulk_create(
        Message(
            position=position,
            offset=first + number,
            timestamp=1_700_000_000_000,
            key=_bytes(key),
            value=_bytes(value),
            headers=dump_headers(headers),
            stored_at=at or timezone.now(),
        )
        for number, value in enumerate(values)
    )
    position.next_offset = first + len(values)
    position.save()
    stored.announce("default")
    return position


def numbered(count: int, start: int = 0) -> Iterable[str]:
    return (f"message {number}" for number in range(start, start + count))


def _bytes(data: str | bytes | None) -> bytes | None:
    return data.encode() if isinstance(data, str) else data
