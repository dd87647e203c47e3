"""What the page asks the database: which partitions there are, and between which keys the rows of a time lie."""

from datetime import datetime, timedelta
from typing import Any

from django.db import router
from django.db.models import QuerySet

from tkcons.models import Message, Position
from tkcons.viewer.query import Query
from tkcons.viewer.rows import Place

CLOCKS = timedelta(seconds=2)  # that the clocks of the hosts that store may differ
NEAR = 500  # keys: so many more rows are looked at rather than asking the index once more


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


def bounds(rows: QuerySet[Message], field: str, query: Query) -> tuple[int | None, int | None]:
    """Between which keys the rows of the query's times lie: [low, high), with some hundred rows beside them.

    Rows are stored in the order of their keys, but for the difference of the hosts' clocks. The query's own condition is
    exact: it leaves out what is beside.
    """
    if query.since is None and query.until is None:
        return None, None
    ordered = rows.order_by(field).values_list(field, "stored_at")
    first, last = ordered.first(), ordered.last()
    if first is None or last is None:
        return None, None
    low = None if query.since is None else _around(ordered, field, query.since - CLOCKS, first, last)[0]
    high = None if query.until is None else _around(ordered, field, query.until + CLOCKS, first, last)[1]
    return low, high


Stored = tuple[int, datetime]  # a key, and when its row was stored


def _around(ordered: Any, field: str, wanted: datetime, first: Stored, last: Stored) -> tuple[int, int]:
    """Keys before and behind the first row that was stored at that time or later, at most NEAR apart.

    Guessed from the times at both ends, as in a telephone book, and in turn by halving, so that no distribution of times
    makes it long: a handful of looks into the index.
    """
    (low, low_time), (high, high_time) = first, (last[0] + 1, last[1])
    guesses = True
    while high - low > NEAR:
        part = 0.5
        if guesses and high_time > low_time:
            part = min(0.98, max(0.02, (wanted - low_time) / (high_time - low_time)))
        guesses = not guesses
        middle = low + max(1, int((high - low) * part))
        row: Stored | None = ordered.filter(**{f"{field}__gte": middle}).first()
        if row is None or row[1] >= wanted:
            high, high_time = middle, high_time if row is None else row[1]
        else:
            low, low_time = row[0] + 1, row[1]
    return low, max(low, high)
