"""What the page asks the database: which partitions there are, and between which keys the rows of a time lie."""

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import NamedTuple

from django.db import connections, router
from django.db.models import QuerySet

from tkcons.models import Message, Position
from tkcons.viewer.rows import Place

CLOCKS = timedelta(seconds=1)  # that the clocks of the hosts that store may differ
NEAR = 50  # keys: so many more rows are looked at rather than halving on


def places() -> list[Place]:
    """All partitions that messages are stored of."""
    fields = ("pk", "group", "topic", "topic_id", "partition", "start_offset", "next_offset")
    rows = Position.objects.using(using()).filter(stores=True).order_by("pk").values_list(*fields)
    return [Place(*row) for row in rows]


def using() -> str:
    """The database that messages are read from: never a replica, which may be behind."""
    return router.db_for_write(Message)


def messages() -> QuerySet[Message]:
    return Message.objects.using(using())


class Span(NamedTuple):
    """[low, high) of keys; None: no end."""

    low: int | None
    high: int | None


def keys(since: datetime | None, until: datetime | None, alias: str) -> Span:
    """Between which primary keys the rows of these times lie, with some rows beside them; None: no end."""
    if since is None and until is None:
        return Span(None, None)
    last = "(SELECT COALESCE(MAX(id), 0) + 1 FROM tkcons_message)"
    return _narrowed("", "id", [(0, last)], since, until, alias)[0]


def offsets(places: Iterable[Place], since: datetime | None, until: datetime | None) -> dict[int, tuple[int, int]]:
    """Between which offsets of each place the rows of these times lie, by the position's key."""
    spans = {place.pk: (0, place.next_offset) for place in places}
    if not spans or (since is None and until is None):
        return spans
    ends = [(pk, str(end)) for pk, (_, end) in spans.items()]
    for pk, (low, high) in _narrowed("position_id = place AND ", '"offset"', ends, since, until, using()).items():
        spans[pk] = (low or 0, spans[pk][1] if high is None else min(high, spans[pk][1]))
    return spans


# Rows are stored in the order of their keys, but for the difference of the hosts' clocks; so the first row of a time is
# found by halving: `size` keys from `low` on are left, and the row in their middle says in which half to go on. All
# places and both ends of the time are in one statement.
_NARROWED = """
WITH RECURSIVE part(place, edge, wanted, low, size) AS (
    VALUES {begin}
    UNION ALL
    SELECT place, edge, wanted, low + CASE WHEN (
        SELECT stored_at FROM tkcons_message WHERE {where}{key} >= low + size / 2 ORDER BY {key} LIMIT 1
    ) < wanted THEN size / 2 ELSE 0 END, size - size / 2 FROM part WHERE size > {near}
)
SELECT place, edge, low, low + size FROM part WHERE size <= {near}
"""
_BEGIN = "(CAST(%s AS BIGINT), CAST(%s AS BIGINT), %s, CAST(0 AS BIGINT), CAST({size} AS BIGINT))"


def _moved(time: datetime | None, by: timedelta) -> datetime | None:
    """None past the calendar's ends, where nothing was stored."""
    try:
        return None if time is None else time + by
    except OverflowError:
        return None


def _narrowed(
    where: str,
    key: str,
    ends: Sequence[tuple[int, str]],
    since: datetime | None,
    until: datetime | None,
    alias: str,
) -> dict[int, Span]:
    """By place. ends: places, and in SQL the key behind each one's last row."""
    wanted = [_moved(since, -CLOCKS), _moved(until, CLOCKS)]
    begin, params = [], []
    for place, size in ends:
        for edge, at in enumerate(wanted):
            if at is not None:
                begin.append(_BEGIN.format(size=size))
                params += [place, edge, connections[alias].ops.adapt_datetimefield_value(at)]
    found = {place: Span(None, None) for place, _ in ends}
    if not begin:
        return found
    sql = _NARROWED.format(begin=", ".join(begin), where=where, key=key, near=NEAR)
    with connections[alias].cursor() as cursor:
        cursor.execute(sql, params)
        for place, edge, low, high in cursor.fetchall():
            found[place] = found[place]._replace(high=high) if edge else found[place]._replace(low=low)
    return found
