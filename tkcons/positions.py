"""Positions in the database: claimed, begun, advanced by compare-and-set, in the caller's transaction or their own."""

from collections.abc import Iterable, Sequence

from django.db import transaction
from django.db.models import F

from tkcons.errors import StaleOwner
from tkcons.models import Position
from tkcons.sinks.base import Batch, Claim, Place


def claim(group: str, places: Iterable[Place], using: str) -> tuple[dict[Place, Claim], dict[Place, int]]:
    """Raise the generation of these places; give the claims and the rows' primary keys, without unknown places."""
    wanted = sorted(places)  # one order everywhere: two processes never wait for each other
    claims: dict[Place, Claim] = {}
    keys: dict[Place, int] = {}
    with transaction.atomic(using=using):
        for place in wanted:
            rows = Position.objects.using(using).filter(group=group, topic_id=place.topic_id, partition=place.partition)
            if rows.update(generation=F("generation") + 1, topic=place.topic):
                row = rows.get()
                claims[place] = Claim(row.generation, row.next_offset)
                keys[place] = row.pk
    return claims, keys


def begin(group: str, starts: dict[Place, int], using: str) -> None:
    """Record where the group begins; existing positions stay."""
    rows = [
        Position(
            group=group,
            topic=place.topic,
            topic_id=place.topic_id,
            partition=place.partition,
            start_offset=offset,
            next_offset=offset,
        )
        for place, offset in sorted(starts.items())
    ]
    Position.objects.using(using).bulk_create(rows, ignore_conflicts=True)


def knows(group: str, topic: str, using: str) -> bool:
    """Whether the group has a position in any topic of this name."""
    return Position.objects.using(using).filter(group=group, topic=topic).exists()


def advance(batches: Sequence[Batch], keys: dict[Place, int], using: str) -> None:
    """Move positions on, inside the transaction that stores the batches.

    Raises StaleOwner where a position is not as claimed: the transaction must roll back.
    """
    for batch in sorted(batches, key=lambda batch: batch.place):
        moved = (
            Position.objects.using(using)
            .filter(pk=keys[batch.place], generation=batch.claim.generation, next_offset=batch.claim.next_offset)
            .update(next_offset=batch.end)
        )
        if not moved:
            raise StaleOwner(f"{batch.place.topic}[{batch.place.partition}] has another owner; nothing was stored.")
