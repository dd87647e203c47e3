"""Lag and throughput of groups over the last minutes, for charts.

A small table, and not a web process's memory: the consumers are other processes, on other hosts too, and the history is
there however many web processes there are, whether or not anybody was looking. A member writes a row every SAMPLE_SECONDS
with its heartbeat and removes what is older than SAMPLES of them.
"""

import time
from collections.abc import Mapping
from typing import Any

import msgspec
from django.db import router
from django.db.models import QuerySet, Sum

from tkcons.conf import settings
from tkcons.models import Sample


class Point(msgspec.Struct, frozen=True):
    """A group at one time (Unix seconds): lag in records, rate in records a second; None: no member told of it."""

    at: int
    lag: int | None = None
    rate: float | None = None


class Sampler:
    """One member's samples."""

    def __init__(self, group: str, member: str) -> None:
        self._group = group
        self._member = member
        self._slot = -1
        self._stored = 0

    def take(self, partitions: list[dict[str, Any]], stored: int) -> None:
        """Write a sample, if the last one's time is over. stored: records since the member started."""
        slot = _slot(time.time())
        if slot == self._slot:
            return
        lag = sum(row["lag"] or 0 for row in partitions)
        rows = _samples().filter(group=self._group)
        rows.create(group=self._group, member=self._member, slot=slot, lag=lag, stored=max(0, stored - self._stored))
        rows.filter(slot__lt=slot - settings.SAMPLES).delete()
        self._slot, self._stored = slot, stored


def history(names: list[str]) -> dict[str, list[Point]]:
    """The last SAMPLES points of each group, oldest first; the time that is not over yet is left out."""
    seconds = settings.SAMPLE_SECONDS
    end = _slot(time.time())
    first = end - settings.SAMPLES
    rows = _samples().filter(group__in=names, slot__gte=first, slot__lt=end).values_list("group", "slot")
    found: Mapping[tuple[str, int], tuple[int, int]] = {
        (group, slot): (lag, stored) for group, slot, lag, stored in rows.annotate(Sum("lag"), Sum("stored")).order_by()
    }
    return {
        name: [
            Point(slot * seconds, found[name, slot][0], found[name, slot][1] / seconds)
            if (name, slot) in found
            else Point(slot * seconds)
            for slot in range(first, end)
        ]
        for name in names
    }


def _slot(seconds: float) -> int:
    return int(seconds // settings.SAMPLE_SECONDS)


def _samples() -> QuerySet[Sample]:
    return Sample.objects.using(router.db_for_write(Sample))
