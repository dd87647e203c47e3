"""Pages of stored messages, newest first, each by keyset: the last page costs what the first one costs.

Three ways, by what an index serves. Everything: by primary key. The partitions of a topic: by (position, offset) in each,
merged. What is in a row (key, header, text): backwards by primary key in slices, until enough is found or time is up.
"""

from collections.abc import Callable
from datetime import datetime
from typing import NamedTuple

import msgspec

from tk.access import Caller, require
from tkcons.viewer import cursor, merge, store
from tkcons.viewer.cursor import BadCursor, Offsets
from tkcons.viewer.query import Query, visible
from tkcons.viewer.rows import Found, Place, fetch
from tkcons.viewer.scan import scan, stored_at

VIEW = "tkcons.view_payload"
MERGED = 32  # partitions at most that are merged; more are searched through


class Page(NamedTuple):
    """A page. before: where the next one begins (None: there is none). searched_to: how far back a search came in its
    time, where it neither found enough nor came to the end. live: the place after which what comes live is new."""

    rows: list[Found]
    before: str | None
    searched_to: datetime | None
    live: str


def find(caller: Caller, query: Query, before: str = "", limit: int = 100) -> Page:
    """The newest messages that match, older than `before`. Raises Unauthenticated, Forbidden, BadCursor."""
    require(caller, VIEW)
    everything = store.places()
    chosen = visible(everything, query, caller)
    live = cursor.dump({pk: place.next_offset for pk, place in chosen.items()})
    if not chosen:
        return Page([], None, None, live)
    all_places = len(chosen) == len(everything)
    if query.is_scan or (not all_places and len(chosen) > MERGED):
        found = scan(query, chosen, _key(before), limit + 1, all_places=all_places)
        page = _scanned(*found, limit)
    elif before.startswith(cursor.MARK) or (not before and (not all_places or query.offset is not None)):
        page = _merged(query, chosen, before, limit)
    else:
        page = _all(query, chosen, _key(before), limit)
    return page._replace(live=live)


def _key(before: str) -> int | None:
    """The primary key in `before`."""
    if not before:
        return None
    if not (before.isascii() and before.isdecimal() and len(before) < 19):
        raise BadCursor
    return int(before)


def _scanned(found: list[Found], reached: int | None, limit: int) -> Page:
    if len(found) > limit:
        return Page(found[:limit], str(found[limit - 1].pk), None, "")
    if reached is None:
        return Page(found, None, None, "")
    return Page(found, str(reached), stored_at(reached), "")


def _all(query: Query, chosen: dict[int, Place], before: int | None, limit: int) -> Page:
    def newest(query: Query) -> list[Found]:
        rows = store.messages().filter(query.condition()).order_by("-pk")
        low, high = store.keys(query.since, query.until, store.using())
        if low is not None:
            rows = rows.filter(pk__gte=low)
        end = before or high
        if end is not None:
            rows = rows.filter(pk__lt=end)
        return fetch(rows[: limit + 1], chosen)

    found = _found(query, limit + 1, newest)
    return Page(found[:limit], str(found[limit - 1].pk) if len(found) > limit else None, None, "")


def _merged(query: Query, chosen: dict[int, Place], before: str, limit: int) -> Page:
    ends: Offsets = cursor.load(before) if before else {}
    rest: Offsets = {}

    def newest(query: Query) -> list[Found]:
        spans = {}
        for pk, (low, high) in store.offsets(chosen.values(), query.since, query.until).items():
            end = min(high, ends.get(pk, high))
            spans[pk] = (low, end) if query.offset is None else (max(low, query.offset), min(end, query.offset + 1))
        rest.update({pk: end for pk, (_, end) in spans.items()})
        return fetch(merge.newest(spans, query, limit + 1), chosen)

    found = _found(query, limit + 1, newest)
    for row in found[:limit]:
        rest[row.place.pk] = min(rest[row.place.pk], row.offset)
    return Page(found[:limit], cursor.dump(rest) if len(found) > limit else None, None, "")


def _found(query: Query, count: int, newest: Callable[[Query], list[Found]]) -> list[Found]:
    """So many of the newest rows. Where `since` lies among the keys is looked for only if the page comes that far."""
    if query.since is not None:
        found = newest(msgspec.structs.replace(query, since=None))
        if len(found) == count and all(row.stored_at >= query.since for row in found):
            return found
    return newest(query)
