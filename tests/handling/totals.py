"""A sink of somebody's own, as docs/consume.md shows it: a row of its own for each message, each once."""

from collections.abc import Iterable, Sequence
from typing import Any

from django.contrib.auth.models import Group as Role
from django.db import transaction

from tkcons import positions
from tkcons.sinks.base import Batch, Claim, Place, Sink


class Totals(Sink):
    def __init__(self, group: str, *, prefix: str = "", **options: Any) -> None:
        super().__init__(group, **options)
        self.prefix = prefix
        self.keys: dict[Place, int] = {}

    def claim(self, places: Iterable[Place]) -> dict[Place, Claim]:
        claims, keys = positions.claim(self.group, places, "default")
        self.keys.update(keys)
        return claims

    def begin(self, starts: dict[Place, int]) -> None:
        positions.begin(self.group, starts, "default")

    def knows(self, topic: str) -> bool:
        return positions.knows(self.group, topic, "default")

    def begun(self, places: Iterable[Place]) -> dict[Place, int]:
        return positions.begun(self.group, places, "default")

    def write(self, batches: Sequence[Batch]) -> None:
        with transaction.atomic():
            positions.advance(batches, self.keys, "default")
            for batch in positions.without_repeats(self.group, batches, self.keys, "default"):
                for message in batch.messages:
                    Role.objects.create(name=f"{self.prefix}{batch.place.partition}-{message.offset()}")
