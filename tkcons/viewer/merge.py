"""The newest rows of several partitions, of each by its own index, in one statement."""

from collections.abc import Mapping

from django.db import connections
from django.db.models import BooleanField, QuerySet
from django.db.models.expressions import RawSQL

from tkcons.models import Message
from tkcons.viewer import store
from tkcons.viewer.query import Query

# `id` is enough for SQLite; the time says to PostgreSQL in which day's partition a row is.
KEYS = {"sqlite": "id", "postgresql": "id, stored_at"}

_OF_ONE = """SELECT * FROM (SELECT {keys} FROM tkcons_message
WHERE position_id = %s AND "offset" >= %s AND "offset" < %s{times} ORDER BY "offset" DESC LIMIT %s) AS newest"""


def newest(spans: Mapping[int, tuple[int, int]], query: Query, limit: int) -> QuerySet[Message]:
    """The newest of the places' rows with offsets in these spans, [low, high), and of the query's times."""
    connection = connections[store.using()]
    keys = KEYS[connection.vendor]
    times, at = "", []
    for condition, time in ((" AND stored_at >= %s", query.since), (" AND stored_at < %s", query.until)):
        if time is not None:
            times += condition
            at.append(connection.ops.adapt_datetimefield_value(time))
    of_one = _OF_ONE.format(keys=keys, times=times)
    params: list[object] = []
    for pk, (low, high) in spans.items():
        params += [pk, low, high, *at, limit]
    union = " UNION ALL ".join([of_one] * len(spans))
    chosen = RawSQL(  # noqa: S611  no text of anybody's is in it
        f"({keys}) IN (SELECT * FROM ({union} ORDER BY 1 DESC LIMIT %s) AS merged)",  # noqa: S608
        [*params, limit],
        BooleanField(),
    )
    return store.messages().filter(chosen).order_by("-pk")
