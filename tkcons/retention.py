"""How long messages are kept: on PostgreSQL in partitions of a day (UTC), which are dropped whole; else as rows."""

import logging
from collections.abc import Iterable
from datetime import UTC, date, datetime, timedelta
from typing import Any

from django.db import DatabaseError, connections, transaction
from django.db.models import Max, QuerySet
from django.utils import timezone

from tkcons.models import Gap, Message, Position

logger = logging.getLogger(__name__)

TABLE = Message._meta.db_table
AHEAD_DAYS = 2  # partitions that are made before they are wanted: today's and tomorrow's
LOCK_TIMEOUT = 1_000  # ms: making a partition waits for whoever reads the table, and readers would wait for it
ROWS = 10_000  # of one transaction, where rows are deleted


def is_partitioned(using: str) -> bool:
    """Whether the table is partitioned: on PostgreSQL, unless it was made without migrations."""
    connection = connections[using]
    if connection.vendor != "postgresql":
        return False
    with connection.cursor() as cursor:
        cursor.execute("SELECT relkind = 'p' FROM pg_class WHERE oid = %s::regclass", [TABLE])
        return bool(cursor.fetchone()[0])


def make_partitions(using: str) -> None:
    """Make the partitions of today and tomorrow. What has none goes into the default partition; the next call tries."""
    if not is_partitioned(using):
        return
    there = set(_days(using))
    today = timezone.now().astimezone(UTC).date()
    for day in (today + timedelta(days=ahead) for ahead in range(AHEAD_DAYS)):
        if day in there:
            continue
        try:
            with transaction.atomic(using=using), connections[using].cursor() as cursor:
                cursor.execute(f"SET LOCAL lock_timeout = {LOCK_TIMEOUT}")
                cursor.execute(
                    f"CREATE TABLE {_name(day)} PARTITION OF {TABLE} "
                    f"FOR VALUES FROM ('{day} 00:00+00') TO ('{day + timedelta(days=1)} 00:00+00')"
                )
        except DatabaseError as error:  # another process has just made it, or the table is in use
            logger.info("partition not made", extra={"action": "partition", "day": str(day), "error": str(error)})


def prune(before: datetime, using: str) -> int:
    """Remove the messages stored before this time and note them as pruned; gives how many.

    Of a partitioned table only days that are wholly before it.
    """
    removed = 0
    if is_partitioned(using):
        before = before.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
        removed = sum(_drop(day, using) for day in sorted(_days(using)) if day < before.date())
        # What is left before that time is in the default partition.
    old = Message.objects.using(using).filter(stored_at__lt=before).order_by("pk")
    while keys := list(old.values_list("pk", flat=True)[:ROWS]):
        chunk = Message.objects.using(using).filter(pk__in=keys)
        with transaction.atomic(using=using):
            _note(chunk, using)
            removed += chunk.delete()[0]
    return removed


def _drop(day: date, using: str) -> int:
    start = datetime(day.year, day.month, day.day, tzinfo=UTC)
    rows = Message.objects.using(using).filter(stored_at__gte=start, stored_at__lt=start + timedelta(days=1))
    with transaction.atomic(using=using), connections[using].cursor() as cursor:
        cursor.execute(f"LOCK TABLE {_name(day)} IN ACCESS EXCLUSIVE MODE")  # nothing comes in between
        count = rows.count()
        _note(rows, using)
        cursor.execute(f"DROP TABLE {_name(day)}")
    return count


def _note(rows: QuerySet[Message], using: str) -> None:
    """One gap a partition, from where the group began: a group stores in the order of offsets."""
    last: Iterable[Any] = (
        rows.order_by().values("position").annotate(last=Max("offset")).values_list("position", "last")
    )
    for position, offset in last:
        Gap.objects.using(using).update_or_create(
            position_id=position,
            reason=Gap.Reason.PRUNED,
            defaults={"end_offset": offset + 1},
            create_defaults={
                "first_offset": Position.objects.using(using).get(pk=position).start_offset,
                "end_offset": offset + 1,
            },
        )


def _name(day: date) -> str:
    return f"{TABLE}_{day:%Y%m%d}"


def _days(using: str) -> list[date]:
    """The days that have a partition."""
    with connections[using].cursor() as cursor:
        cursor.execute(
            "SELECT c.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid WHERE i.inhparent = %s::regclass",
            [TABLE],
        )
        names = [name.removeprefix(f"{TABLE}_") for (name,) in cursor.fetchall()]
    return [datetime.strptime(name, "%Y%m%d").replace(tzinfo=UTC).date() for name in names if name.isdigit()]
