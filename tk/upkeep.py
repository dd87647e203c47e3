"""What operators see of the outbox and do with its failed events."""

import logging
from collections.abc import Collection
from typing import Any

import msgspec
from django.db import router
from django.db.models import BooleanField, Count, QuerySet
from django.db.models.expressions import RawSQL
from django.db.models.functions import Now
from django.utils import timezone

from tk import trail
from tk.access import Caller, require
from tk.errors import UnknownEvent
from tk.models import OutboxEvent, OutboxRelay, OutboxShard

logger = logging.getLogger(__name__)

SETTLE = "tk.settle_outboxevent"
COUNTED = 100_000  # events of a state that are counted; more are "at least"

State = OutboxEvent.State


class Status(msgspec.Struct, frozen=True):
    """waiting and failed: numbers of events, at most COUNTED. oldest_seconds: since the oldest waiting one was published;
    None: nothing waits. relays: living ones by name, with the number of their shards."""

    waiting: int
    oldest_seconds: float | None
    failed: int
    relays: dict[str, int]


def in_state(state: int) -> RawSQL:
    """A condition that partial indexes answer: SQLite does not match them with a parameter."""
    return RawSQL(f"state = {int(state)}", (), output_field=BooleanField())  # noqa: S611  a number


def status(using: str | None = None) -> Status:
    """How the outbox stands, by its indexes alone."""
    alias = using or router.db_for_write(OutboxEvent)
    events = OutboxEvent.objects.using(alias)
    pending = events.filter(in_state(State.PENDING))
    oldest = pending.order_by("pk").values_list("created_at", flat=True).first()
    living = OutboxRelay.objects.using(alias).filter(seen_until__gte=Now()).values_list("name", flat=True)
    owners = OutboxShard.objects.using(alias).exclude(owner="").values_list("owner").annotate(Count("pk"))
    shards: dict[str, int] = dict(owners)
    return Status(
        pending[:COUNTED].count(),
        None if oldest is None else max(0.0, (timezone.now() - oldest).total_seconds()),
        events.filter(in_state(State.FAILED))[:COUNTED].count(),
        {name: shards.get(name, 0) for name in living},
    )


def failed(using: str | None = None, topic: str | None = None) -> QuerySet[OutboxEvent]:
    """The failed events, oldest first."""
    events = OutboxEvent.objects.using(using or router.db_for_write(OutboxEvent)).filter(in_state(State.FAILED))
    return (events if topic is None else events.filter(topic=topic)).order_by("pk")


def resend(chosen: Collection[Any], caller: Caller, using: str | None = None) -> int:
    """Have these events (primary keys) sent again, under their event ids; gives how many had failed.

    Raises Unauthenticated, Forbidden, or UnknownEvent when none had.
    """
    return _settle(chosen, State.PENDING, "resent", caller, using)


def discard(chosen: Collection[Any], caller: Caller, using: str | None = None) -> int:
    """Give these events up: what comes after them in their keys is sent. Gives how many had failed; raises as `resend`."""
    return _settle(chosen, State.DISCARDED, "discarded", caller, using)


def _settle(chosen: Collection[Any], state: State, what: str, caller: Caller, using: str | None) -> int:
    require(caller, SETTLE)
    found = [event for event in failed(using).filter(pk__in=chosen).defer("value") if caller.sees(event.topic)]
    changed = failed(using).filter(pk__in=[event.pk for event in found]).update(state=state, error="")
    if not changed:
        raise UnknownEvent
    for event in found:
        trail.note(caller, str(event), f"{what}: {event.error}", row=event)
    logger.info("failed events", extra={"action": what, "records": changed, "by": caller.name})
    return changed
