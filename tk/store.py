"""The outbox's table as a relay needs it: what waits, marking what was sent, pruning."""

import uuid
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import timedelta

import msgspec
from django.db import connections, transaction
from django.utils import timezone

from tk.conf import settings
from tk.database import UNSYNCED
from tk.leases import Leases
from tk.models import OutboxEvent, OutboxShard

BATCH_BYTES = 64 << 20  # values that a relay reads at once, at most (one more may be in it)
PRUNED = 500  # rows deleted at once, at most: nothing is sent meanwhile

_TABLE = OutboxEvent._meta.db_table
# Without a lock: a mark that comes just after another took the shard does no harm, for the event has arrived.
_OURS = f"shard IN (SELECT shard FROM {OutboxShard._meta.db_table} WHERE owner = %s)"  # noqa: S608
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
    """One relay's access to the outbox in the database `using`.

    No commit waits for the disk on PostgreSQL: a mark that is lost, because the server died itself, is a repeat.
    """

    def __init__(self, using: str, leases: Leases) -> None:
        self.using = using
        self.leases = leases

    def pending(self, limit: int, without: Collection[int]) -> list[Event]:
        """The next events of the held shards in the order of their ids, leaving out the ids `without`."""
        connection = connections[self.using]
        if connection.vendor != "postgresql":
            parts = {
                "event_id": "event_id",
                "shards": f"shard IN ({_list(self.leases.held)})",
                "without": f"id NOT IN ({_list(without)})",
            }
            with connection.cursor() as cursor:
                cursor.execute(_PENDING % {**parts, "limit": limit})
                return [Event(row[0], str(uuid.UUID(row[1])), *row[2:]) for row in cursor.fetchall()]
        import psycopg

        parts = {
            "event_id": "event_id::text",
            "shards": f"shard = ANY('{_array(self.leases.held)}')",
            "without": f"id <> ALL('{_array(without)}')",
        }
        connection.ensure_connection()
        with connection.wrap_database_errors, psycopg.Cursor(connection.connection) as rows:
            # Binary: Django's cursors have bytes written in hexadecimal digits and read again.
            rows.execute(_PENDING % {**parts, "limit": limit}, binary=True)
            return [Event(*row) for row in rows.fetchall()]

    def mark(self, sent: Sequence[Sent], failed: Mapping[int, str]) -> None:
        """Record acknowledgements and failures, for shards that are still this relay's.

        What arrived has arrived, whoever sent it; an event fails under the lease alone under which it was refused: since
        then another relay may have sent it.
        """
        if sent and settings.OUTBOX_KEEP_SECONDS > 0:
            self._update(sent)
        elif sent:
            self._delete(sent)
        if failed:
            self._fail(failed)

    def _fail(self, failed: Mapping[int, str]) -> None:
        with transaction.atomic(using=self.using):
            # Locked: nobody takes a shard before its events have failed.
            rows = OutboxShard.objects.using(self.using).filter(owner=self.leases.name).order_by("shard")
            leases = rows.select_for_update().values_list("shard", "generation")
            ours = [shard for shard, generation in leases if self.leases.held.get(shard) == generation]
            for number, error in failed.items():
                OutboxEvent.objects.using(self.using).filter(pk=number, shard__in=ours, state=0).update(
                    state=OutboxEvent.State.FAILED, error=error
                )

    def _update(self, sent: Sequence[Sent]) -> None:
        connection = connections[self.using]
        now = connection.ops.adapt_datetimefield_value(timezone.now())
        rows = [(event.id, partition, offset) for event, partition, offset in sent]
        with connection.cursor() as cursor:
            if connection.vendor == "postgresql":
                ids, partitions, offsets = zip(*rows, strict=True)
                cursor.execute(
                    f"UPDATE {_TABLE} AS event SET state = 1, error = '', sent_at = %s, sent_partition = sent.partition,"  # noqa: S608
                    " sent_offset = sent.position FROM unnest(%s::bigint[], %s::int[], %s::bigint[])"
                    f" AS sent (id, partition, position) WHERE event.id = sent.id AND {_OURS} AND {UNSYNCED}"
                    # This leads the planner to the index of pending rows; it would read the whole table.
                    " AND event.state = 0 AND event.id BETWEEN %s AND %s",
                    [now, *map(_array, (ids, partitions, offsets)), self.leases.name, min(ids), max(ids)],
                )
                return
            with transaction.atomic(using=self.using):
                cursor.executemany(
                    f"UPDATE {_TABLE} SET state = 1, error = '', sent_partition = %s, sent_offset = %s, sent_at = %s"  # noqa: S608
                    f" WHERE id = %s AND {_OURS}",
                    [(partition, offset, now, number, self.leases.name) for number, partition, offset in rows],
                )

    def _delete(self, sent: Sequence[Sent]) -> None:
        connection, ids = connections[self.using], [event.id for event, _, _ in sent]
        which = f"= ANY('{_array(ids)}') AND {UNSYNCED}" if connection.vendor == "postgresql" else f"IN ({_list(ids)})"
        with connection.cursor() as cursor:
            cursor.execute(f"DELETE FROM {_TABLE} WHERE id {which} AND {_OURS}", [self.leases.name])  # noqa: S608  integers

    def prune(self) -> bool:
        """Delete what was sent OUTBOX_KEEP_SECONDS ago; True: there may be more."""
        connection = connections[self.using]
        old = connection.ops.adapt_datetimefield_value(timezone.now() - timedelta(seconds=settings.OUTBOX_KEEP_SECONDS))
        with connection.cursor() as cursor:
            cursor.execute(
                f"DELETE FROM {_TABLE} WHERE id IN (SELECT id FROM {_TABLE} WHERE state = 1 AND sent_at < %s"  # noqa: S608
                f" ORDER BY sent_at LIMIT {PRUNED}) AND {UNSYNCED if connection.vendor == 'postgresql' else 'true'}",
                [old],
            )
            return bool(cursor.rowcount == PRUNED)


def _list(numbers: Iterable[int]) -> str:
    """In SQL; numbers only. Quicker than a parameter each."""
    return ",".join(map(str, numbers))


def _array(numbers: Iterable[int]) -> str:
    """The same, PostgreSQL's way: an array is hashed and a list is not."""
    return f"{{{_list(numbers)}}}"
