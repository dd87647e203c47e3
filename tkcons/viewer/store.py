"""What the page asks the database: which partitions there are, and between which keys the rows of a time lie."""

from datetime import datetime, timedelta

from django.db import router
from django.db.models import QuerySet

from tkcons.models import Message, Position
from tkcons.viewer.query import Query
from tkcons.viewer.rows import Place

CLOCKS = timedelta(seconds=2)  # that the clocks of the hosts that store may differ


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
    """Between which keys the rows of the query's times lie: [low, high). Rows are stored in the order of their keys, but
    for the difference of the hosts' clocks; the query's own condition is exact."""
    low = None if query.since is None else _first_at(rows, field, query.since - CLOCKS)
    high = None if query.until is None else _first_at(rows, field, query.until + CLOCKS)
    return low, high


def _first_at(rows: QuerySet[Message], field: str, wanted: datetime) -> int:
    """The key of the first row stored at that time or later, by halving: some twenty looks into the index."""
    ends = rows.order_by(field).values_list(field, flat=True)
    first, last = ends.first(), ends.last()
    if first is None or last is None:
        return 0
    low: int = first
    high: int = last + 1
    while low < high:
        middle = (low + high) // 2
        following = rows.filter(**{f"{field}__gte": middle}).order_by(field)
        row: tuple[int, datetime] | None = following.values_list(field, "stored_at").first()
        if row is None or row[1] >= wanted:
            high = middle
        else:
            low = row[0] + 1
    return low
