"""The outbox: messages that a database transaction publishes, sent by a relay (`manage.py relay`) after the commit."""

import hashlib
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from django.db import connections, router, transaction

from tk import tracing
from tk.api import HeadersLike, record
from tk.conf import settings
from tk.models import OutboxEvent
from tk.record import Record, check, dump_headers
from tk.serializers import Serializer

SHARDS = 64  # of the keys; relays lease them. Fixed: another number would give a waiting key to two relays
CHANNEL = "tk_outbox"  # PostgreSQL's NOTIFY channel
LOCKS = 1_024  # advisory locks that all keys share, so that a bulk of any size takes a bounded number of them
LOCK_CLASS = 0x746B  # keeps them apart from the project's own advisory locks


def publish(
    topic: str,
    value: Any,
    *,
    key: str | bytes | None = None,
    headers: HeadersLike | None = None,
    partition: int | None = None,
    timestamp: int | None = None,
    serializer: Serializer | None = None,
    using: str | None = None,
) -> uuid.UUID:
    """Send a message if and only if the open transaction commits; gives the event id, which goes in a header.

    `using`: the alias of the transaction (default: where the router writes the outbox). Outside a transaction the message
    is committed at once. Messages of one key arrive in the order of their commits. Raises InvalidRecord as `produce`
    does; whether the topic exists shows when the message is sent.
    """
    made = record(
        topic, value, key=key, headers=headers, partition=partition, timestamp=timestamp, serializer=serializer
    )
    return publish_many([tracing.carry(made)], using=using)[0]


def publish_many(records: Iterable[Record], *, using: str | None = None) -> list[uuid.UUID]:
    """`publish` for many: all are checked before the first is inserted; gives their event ids, in order."""
    events = []
    for each in records:
        check(each)
        events.append(_event(each))
    alias = using or router.db_for_write(OutboxEvent)
    if events:
        with _ordered(alias, events):
            OutboxEvent.objects.using(alias).bulk_create(events, batch_size=1_000)
    return [event.event_id for event in events]


def lane(record: Record, event_id: uuid.UUID) -> int:
    """What is kept in order, as 63 bits: the key, else the partition that was named, else the message alone."""
    if record.key is not None:
        what = b"k" + record.key
    elif record.partition is not None:
        what = b"p%d" % record.partition
    else:
        what = b"e" + event_id.bytes
    digest = hashlib.blake2b(record.topic.encode() + b"\0" + what, digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


def _event(record: Record) -> OutboxEvent:
    event_id = uuid.uuid4()
    number = lane(record, event_id)
    return OutboxEvent(
        event_id=event_id,
        lane=number,
        shard=number % SHARDS,
        topic=record.topic,
        key=record.key,
        value=record.value,
        headers=dump_headers(record.headers),
        partition=record.partition,
        timestamp=record.timestamp,
    )


@contextmanager
def _ordered(alias: str, events: list[OutboxEvent]) -> Iterator[None]:
    """The insert's surroundings: on PostgreSQL, ids in the order of commits per key, and a wake-up at the commit.

    SQLite has one writer at a time, so its ids are in the order of commits anyway.
    """
    with transaction.atomic(using=alias, savepoint=False):
        connection = connections[alias]
        if connection.vendor == "postgresql":
            with connection.cursor() as cursor:
                # PostgreSQL sends the notice at the commit, and the same one only once a transaction.
                if settings.OUTBOX_COMMIT_ORDER:
                    # Without the lock a transaction could take its id first and commit last. Sorted: no deadlock
                    # between two bulks.
                    locks = sorted({event.lane % LOCKS for event in events})
                    cursor.execute(
                        "SELECT pg_notify(%s, ''), count(pg_advisory_xact_lock(%s, number))"
                        " FROM unnest(%s::int[]) AS number",
                        [CHANNEL, LOCK_CLASS, locks],
                    )
                else:
                    cursor.execute("SELECT pg_notify(%s, '')", [CHANNEL])
        yield
