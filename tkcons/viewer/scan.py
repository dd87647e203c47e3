"""Searching for what is in a row, which no index serves: backwards in slices, until enough is found or time is up."""

import time
from datetime import datetime
from typing import NamedTuple

from tkcons.bounded import TookTooLong, within
from tkcons.conf import settings
from tkcons.viewer import store
from tkcons.viewer.query import Query
from tkcons.viewer.rows import Found, Place, fetch

SLICE = 2_000  # primary keys of the first slice; the next is twice as long while slices are quick
LONGEST_SLICE = 200_000
QUICK = 0.1  # seconds


class Scanned(NamedTuple):
    """What was found, newest first. reached: the key down to which all rows were looked at; None: down to the last."""

    rows: list[Found]
    reached: int | None


def scan(query: Query, chosen: dict[int, Place], before: int | None, limit: int, *, all_places: bool) -> Scanned:
    """At most `limit` rows with smaller keys than `before`, within SEARCH_SECONDS.

    A slice that takes too long is cut; a single value that cannot be searched in that time is passed by.
    """
    deadline = time.monotonic() + settings.SEARCH_SECONDS
    wanted = store.messages().filter(query.condition())
    if not all_places:
        wanted = wanted.filter(position__in=list(chosen))
    low, high = _ends(query, before)
    found: list[Found] = []
    size = SLICE
    while high > low and len(found) < limit:
        left = deadline - time.monotonic()
        if left <= 0:
            return Scanned(found, high)
        start, room = max(low, high - size), limit - len(found)
        began = time.monotonic()
        try:
            with within(max(left, QUICK), store.using()):
                part = fetch(wanted.filter(pk__gte=start, pk__lt=high).order_by("-pk")[:room], chosen, whole=True)
        except TookTooLong:
            high -= size == 1
            size = max(1, size // 8)
            continue
        found += filter(query.matches, part)
        high = part[-1].pk if len(part) == room else start  # a full part ends within its slice
        size = min(size * 2, LONGEST_SLICE) if time.monotonic() - began < QUICK else max(1, size // 2)
    return Scanned(found, high if high > low else None)


def stored_at(key: int) -> datetime | None:
    """When the row with this key, or the next one, was stored."""
    return store.messages().filter(pk__gte=key).order_by("pk").values_list("stored_at", flat=True).first()


def _ends(query: Query, before: int | None) -> tuple[int, int]:
    """The keys between which to look: [low, high)."""
    rows = store.messages().order_by("pk").values_list("pk", flat=True)
    first, last = rows.first(), rows.last()
    if first is None or last is None:
        return 0, 0
    low, high = store.keys(query.since, query.until, store.using())
    return max(low or 0, first), before or high or last + 1
