"""The outbox's table as a relay needs it: what waits, marking what was sent, pruning."""

import uuid
from collections.abc import Collection, Mapping, Sequence
from datetime import timedelta

import msgspec
from django.db import connections, transaction
from django.utils import timezone

from tk.conf import settings
from tk.leases import Leases
from tk.models import OutboxEvent

BATCH_BYTES = 64 << 20  # values that a relay reads at once, at most (one more may be in it)
PRUNED = 5_000  # rows deleted at once

_TABLE = OutboxEvent._meta.db_table
# The innermost query walks the index of pending rows; the sum stops it at BATCH_BYTES. A failed event holds its lane.
_PENDING = f"""
SELECT id, %(event_id)s, lane, shard, topic, key, value, headers, partition, timestamp FROM (
  SELECT waiting.*, SUM(COALESCE(LENGTH(value), 0)) OVER (ORDER BY id ROWS UNBOUNDED PRECEDING) AS bytes FROM (
    SELECT id, event_id, lane, shard, topic, key, value, headers, partition, timestamp FROM {_TABLE}
    WHERE state = 0 AND %(shards)s AND %(without)s AND lane NOT IN (SELECT lane FROM {_TABLE} WHERE state = 2)
    ORDER BY id LIMIT %(limit)s
  ) AS waiting
) AS counted WHERE bytes - COALESCE(LENGTH(value), 0) < {BATCH_BYTES} ORDER BY id
"""  # noqa: S608  numbers alone are put in


class Event(msgspec.Struct, frozen=True, gc=False):
    """A row that waits."""

    id: int
    event_id: str
    lane: int
    shard: int
    topic: str
    key: bytes | None
    value: bytes | None
    headers: str | None
    partition: int | None
    timestamp: int | None


Sent = tuple[Event, int, int]  # with partition and offset


class Store:
    """One relay's access to the outbox in the database `using`."""

    def __init__(self, using: str, leases: Leases) -> None:
        self.using = using
        self.leases = leases

    def pending(self, limit: int, without: Collection[int]) -> list[Event]:
        """The next events of the held shards in the order of their ids, leaving out the ids `without`."""
        connection = connections[self.using]
        shards, ids = ",".join(map(str, self.leases.held)), ",".join(map(str, without))
        if connection.vendor != "postgresql":
            parts = {"event_id": "event_id", "shards": f"shard IN ({shards})", "without": f"id NOT IN ({ids})"}
            with connection.cursor() as cursor:
                cursor.execute(_PENDING % {**parts, "limit": limit})
                return [Event(row[0], str(uuid.UUID(row[1])), *row[2:]) for row in cursor.fetchall()]
        import psycopg

        parts = {
            "event_id": "event_id::text",
            "shards": f"shard = ANY('{{{shards}}}')",
            "without": f"id <> ALL('{{{ids}}}')" if ids else "true",  # hashed by PostgreSQL
        }
        connection.ensure_connection()
        with connection.wrap_database_errors, psycopg.Cursor(connection.connection) as rows:
            # Binary: Django's cursors have bytes written in hexadecimal digits and read again.
            rows.execute(_PENDING % {**parts, "limit": limit}, binary=True)
            return [Event(*row) for row in rows.fetchall()]

    def mark(self, sent: Sequence[Sent], failed: Mapping[int, str]) -> None:
        """Record acknowledgements and failures, for shards that are still this relay's."""
        connection = connections[self.using]
        with transaction.atomic(using=self.using):
            if connection.vendor == "postgresql":
                with connection.cursor() as cursor:
                    cursor.execute("SET LOCAL synchronous_commit TO off")  # a lost mark is a repeat, which is allowed
            ours = self.leases.confirmed()
            done = [(event.id, partition, offset) for event, partition, offset in sent if event.shard in ours]
            if done and settings.OUTBOX_KEEP_SECONDS > 0:
                self._update(done)
            elif done:
                self._delete([row[0] for row in done])
            for number, error in failed.items():
                OutboxEvent.objects.using(self.using).filter(pk=number, shard__in=ours, state=0).update(
                    state=OutboxEvent.State.FAILED, error=error
                )

    def _update(self, done: list[tuple[int, int, int]]) -> None:
        connection = connections[self.using]
        now = connection.ops.adapt_datetimefield_value(timezone.now())
        with connection.cursor() as cursor:
            if connection.vendor == "postgresql":
                ids, partitions, offsets = zip(*done, strict=True)
                cursor.execute(
                    f"UPDATE {_TABLE} AS event SET state = 1, error = '', sent_at = %s, sent_partition = sent.partition,"  # noqa: S608
                    " sent_offset = sent.position FROM unnest(%s::bigint[], %s::int[], %s::bigint[])"
                    " AS sent (id, partition, position) WHERE event.id = sent.id"
                    # This leads the planner to the index of pending rows; it would read the whole table.
                    " AND event.state = 0 AND event.id BETWEEN %s AND %s",
                    [now, list(ids), list(partitions), list(offsets), min(ids), max(ids)],
                )
            else:
                cursor.executemany(
                    f"UPDATE {_TABLE} SET state = 1, error = '', sent_partition = %s, sent_offset = %s, sent_at = %s"  # noqa: S608
                    " WHERE id = %s",
                    [(partition, offset, now, number) for number, partition, offset in done],
                )

    def _delete(self, ids: list[int]) -> None:
        connection, numbers = connections[self.using], ",".join(map(str, ids))
        which = f"= ANY('{{{numbers}}}')" if connection.vendor == "postgresql" else f"IN ({numbers})"
        with connection.cursor() as cursor:
            cursor.execute(f"DELETE FROM {_TABLE} WHERE id {which}")  # noqa: S608  integers

    def prune(self) -> bool:
        """Delete what was sent OUTBOX_KEEP_SECONDS ago; True: there may be more."""
        old = timezone.now() - timedelta(seconds=settings.OUTBOX_KEEP_SECONDS)
        events = OutboxEvent.objects.using(self.using)
        rows = events.filter(state=OutboxEvent.State.SENT, sent_at__lt=old).order_by("sent_at")
        ids = list(rows.values_list("pk", flat=True)[:PRUNED])
        if ids:
            self._delete(ids)
        return len(ids) == PRUNED
