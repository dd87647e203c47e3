"""Positions in the database: claimed, begun, advanced by compare-and-set, in the caller's transaction or their own."""

from collections.abc import Iterable, Sequence
from datetime import timedelta

from django.db import IntegrityError, connections, transaction
from django.db.models import F
from django.db.models.functions import Least
from django.utils import timezone

from tk.database import UNSYNCED, unsynced
from tkcons import owners, repeats
from tkcons.conf import settings
from tkcons.errors import SinkUnavailable, StaleOwner
from tkcons.models import Gap, Message, Position, SeenEvent
from tkcons.repeats import Event, Found
from tkcons.sinks.base import Batch, Claim, Place

# PostgreSQL, in ms. An owner that hangs inside its transaction holds the position's row: the new owner gives up its wait
# and comes again, and the server ends the transaction that does nothing.
LOCK_TIMEOUT = 5_000
IDLE_TIMEOUT = 15_000
FORGET_ROWS = 10_000  # of one statement

# What is done once a batch is SQL of our own: two updates by the ORM take as long as a hundred messages do.
_CLAIMED = "WHERE id = %s AND generation = %s AND next_offset = %s"
_ADVANCE = f"UPDATE {Position._meta.db_table} SET next_offset = %s, trying_until = %s, tries = 0 {_CLAIMED}"  # noqa: S608
_TRY = f"UPDATE {Position._meta.db_table} SET trying_until = %s, tries = %s {_CLAIMED}"  # noqa: S608
# PostgreSQL. The commit of this one statement does not wait for the disk.
_TRY_UNSYNCED = f"{_TRY} AND {UNSYNCED}"
_LIMIT = "SELECT set_config('lock_timeout', %s, true), set_config('idle_in_transaction_session_timeout', %s, true)"


def claim(group: str, places: Iterable[Place], using: str) -> tuple[dict[Place, Claim], dict[Place, int]]:
    """Raise the generation of these places; give the claims and the rows' primary keys, without unknown places."""
    wanted = sorted(places)  # one order everywhere: two processes never wait for each other
    claims: dict[Place, Claim] = {}
    keys: dict[Place, int] = {}
    with transaction.atomic(using=using):
        limit_waits(using)
        for place in wanted:
            rows = Position.objects.using(using).filter(group=group, topic_id=place.topic_id, partition=place.partition)
            if rows.update(generation=F("generation") + 1, topic=place.topic):
                row = rows.get()
                owners.take(row, using)
                claims[place] = Claim(row.generation, row.next_offset)
                keys[place] = row.pk
    return claims, keys


def begin(group: str, starts: dict[Place, int], using: str, *, stores: bool = True) -> None:
    """Record where the group begins; existing positions stay. stores: whether messages are stored, or only handled."""
    rows = [
        Position(
            group=group,
            topic=place.topic,
            topic_id=place.topic_id,
            partition=place.partition,
            start_offset=offset,
            next_offset=offset,
            stores=stores,
        )
        for place, offset in sorted(starts.items())
    ]
    Position.objects.using(using).bulk_create(rows, ignore_conflicts=True)


def knows(group: str, topic: str, using: str) -> bool:
    """Whether the group has a position in any topic of this name."""
    return Position.objects.using(using).filter(group=group, topic=topic).exists()


def begun(group: str, places: Iterable[Place], using: str) -> dict[Place, int]:
    """Where the group began in these places."""
    wanted = set(places)
    rows = Position.objects.using(using).filter(group=group, topic_id__in={place.topic_id for place in wanted})
    found = {Place(*row[:3]): row[3] for row in rows.values_list("topic", "topic_id", "partition", "start_offset")}
    return {place: found[place] for place in wanted & found.keys()}


def advance(batches: Sequence[Batch], keys: dict[Place, int], using: str, ahead: int | None = None) -> None:
    """Move positions on, inside the transaction that stores the batches.

    ahead: the end of what will be tried next, so that it needs no `try_from`. Raises StaleOwner where a position is not as
    claimed: the transaction must roll back.
    """
    with connections[using].cursor() as cursor:
        for batch in sorted(batches, key=lambda batch: batch.place):
            cursor.execute(_ADVANCE, [batch.end, ahead, keys[batch.place], *batch.claim])
            if not cursor.rowcount:
                raise _stale(batch.place)


def stop_at(batch: Batch, offset: int, key: int, using: str) -> None:
    """The transaction that has advanced past the batch ends here, and nothing more is tried. Raises StaleOwner."""
    rows = Position.objects.using(using).filter(pk=key, generation=batch.claim.generation, next_offset=batch.end)
    if not rows.update(next_offset=offset, trying_until=None):
        raise _stale(batch.place)


def tried(keys: dict[Place, int], using: str) -> dict[Place, tuple[int, int]]:
    """Where a try was begun and not finished: its end (exclusive), and how often, if it is of a single message."""
    rows = Position.objects.using(using).filter(pk__in=keys.values()).exclude(trying_until=None)
    found = {pk: (until or 0, tries) for pk, until, tries in rows.values_list("pk", "trying_until", "tries")}
    return {place: found[key] for place, key in keys.items() if key in found}


def try_from(batch: Batch, key: int, tries: int, using: str) -> None:
    """Record that the batch is being tried, in a transaction of its own. Raises StaleOwner.

    It is there for who comes after the end of this process; after a power cut the try may count as never begun.
    """
    connection = connections[using]
    own = connection.vendor == "postgresql" and not connection.in_atomic_block
    query = _TRY_UNSYNCED if own else _TRY
    with unsynced(using), connection.cursor() as cursor:
        cursor.execute(query, [batch.end, tries, key, *batch.claim])
        if not cursor.rowcount:
            raise _stale(batch.place)


def seek(place: Place, claim: Claim, offset: int, key: int, using: str) -> None:
    """Move a claimed position; messages, gaps and events from there on are taken out. Raises StaleOwner."""
    with transaction.atomic(using=using):
        limit_waits(using)
        advance([Batch(place, claim, [], offset)], {place: key}, using)
        row = Position.objects.using(using).filter(pk=key)
        row.update(start_offset=Least("start_offset", offset))
        gaps = Gap.objects.using(using).filter(position_id=key)
        if offset > claim.next_offset:
            skipped = {"first_offset": claim.next_offset, "end_offset": offset, "reason": Gap.Reason.SKIPPED}
            gaps.create(position_id=key, **skipped)
            return
        Message.objects.using(using).filter(position_id=key, offset__gte=offset).delete()
        gaps.filter(first_offset__gte=offset).delete()
        gaps.filter(end_offset__gt=offset).update(end_offset=offset)
        events = SeenEvent.objects.using(using).filter(group=row.get().group, topic_id=place.topic_id)
        events.filter(partition=place.partition, offset__gte=offset).delete()


def _stale(place: Place) -> StaleOwner:
    return StaleOwner(f"{place.topic}[{place.partition}] has another owner; nothing was stored.")


def limit_waits(using: str, idle: int | None = None) -> None:
    """Bound how long this transaction waits for locks and how long it may idle (ms). Call it first in the transaction."""
    connection = connections[using]
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute(_LIMIT, [str(LOCK_TIMEOUT), str(idle or IDLE_TIMEOUT)])


def unlimit_locks(using: str) -> None:
    """From here on in the transaction, locks are waited for as the database's settings say."""
    connection = connections[using]
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute("SET LOCAL lock_timeout TO DEFAULT")


def without_repeats(group: str, batches: Sequence[Batch], keys: dict[Place, int], using: str) -> Sequence[Batch]:
    """The batches without events that the group has stored before; the new ones are remembered, repeats noted as gaps.

    Inside the transaction that stores the batches. A batch may come back empty. Raises SinkUnavailable when another
    partition stores the same event at this moment: the next try sees it.
    """
    found = repeats.find(batches, lambda events: seen(group, events, using))
    remember(group, found, keys, using)
    return found.batches


def remember(group: str, found: Found, keys: dict[Place, int], using: str) -> None:
    """Remember new events, note repeats as gaps. Raises SinkUnavailable as `without_repeats` does."""
    if found.events:
        now = timezone.now()
        rows = [
            SeenEvent(group=group, topic_id=t, event_id=e, partition=partition, offset=offset, seen_at=now)
            for (t, e), (partition, offset) in found.events.items()
        ]
        try:
            SeenEvent.objects.using(using).bulk_create(rows)
        except IntegrityError as error:
            raise SinkUnavailable("An event and its repeat were stored at the same time: tried again.") from error
    if found.repeats:
        Gap.objects.using(using).bulk_create(
            Gap(position_id=keys[place], first_offset=offset, end_offset=offset + 1, reason=Gap.Reason.REPEAT)
            for place, offset in found.repeats
        )


def forget_events(group: str, using: str) -> None:
    """Forget some of the events that are older than EVENT_DAYS: at most FORGET_ROWS, so that it takes a moment only."""
    events = SeenEvent.objects.using(using)
    before = timezone.now() - timedelta(days=settings.EVENT_DAYS)
    old = list(events.filter(group=group, seen_at__lt=before).values_list("pk", flat=True)[:FORGET_ROWS])
    if old:
        events.filter(pk__in=old).delete()


def seen(group: str, events: set[Event], using: str) -> set[Event]:
    """Those of the events that the group has stored."""
    rows = SeenEvent.objects.using(using).filter(
        group=group,
        topic_id__in={event.topic_id for event in events},
        event_id__in={event.event_id for event in events},
    )
    return {Event(*row) for row in rows.values_list("topic_id", "event_id")}
