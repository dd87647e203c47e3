"""One message's way, with times, as far as they are recorded."""

import uuid
from collections.abc import Iterator
from datetime import datetime
from typing import NamedTuple

from django.db import router
from django.utils.translation import gettext as _

from tk.access import Caller
from tk.models import IdempotentRequest, OutboxEvent
from tk.record import EVENT_ID_HEADER, load_headers
from tkcons import owners
from tkcons.models import DeadLetter, Gap, Message, Position
from tkcons.viewer import store
from tkcons.viewer.lookup import Stored
from tkcons.viewer.rows import as_time

LETTERS = "tkcons.view_deadletter"


class Step(NamedTuple):
    """A step of the way. state: done, waiting, failed, or unknown where it is not recorded."""

    name: str
    at: datetime | None = None
    detail: str = ""
    state: str = "done"


def steps(stored: Stored, caller: Caller) -> list[Step]:
    """From the request to the store; what nobody recorded is said to be so."""
    return [*_sending(stored), *_storing(stored), *_handling(stored), *_letters(stored, caller)]


def _sending(stored: Stored) -> Iterator[Step]:
    message = stored.message
    accepted, acknowledged_at = _accepted(message)
    yield accepted
    address = stored.address
    place = f"{address.topic}[{address.partition}]@{address.offset}"
    if acknowledged_at is not None:
        yield Step(_("Acknowledged"), acknowledged_at, place)
    elif message is not None and message.timestamp is not None and message.timestamp_type == 1:
        yield Step(
            _("Acknowledged"), as_time(message.timestamp), _("%(place)s, written by the broker") % {"place": place}
        )
    elif message is not None and message.timestamp is not None:
        detail = _("%(place)s; the time is the producer's own") % {"place": place}
        yield Step(_("Acknowledged"), as_time(message.timestamp), detail)
    else:
        yield Step(_("Acknowledged"), detail=place + ", " + _("not recorded"), state="unknown")


def _storing(stored: Stored) -> Iterator[Step]:
    for place in stored.places:
        message = stored.messages.get(place.pk)
        name = _("Stored by %(group)s") % {"group": place.group}
        if message is not None:
            yield Step(name, message.stored_at, _by(message.position, message.offset))
        elif place.next_offset <= stored.address.offset:
            left = stored.address.offset - place.next_offset
            yield Step(name, detail=_("not yet: %(count)d before it") % {"count": left}, state="waiting")
        else:
            yield Step(name, detail=_why_not(place.pk, stored.address.offset), state="failed")


def _why_not(position: int, offset: int) -> str:
    gaps = Gap.objects.using(store.using()).filter(position=position, first_offset__lte=offset, end_offset__gt=offset)
    gap = gaps.first()
    if gap is not None:
        return _("not stored: %(reason)s") % {"reason": gap.get_reason_display()}
    return _("there is no message at this offset")


def _handling(stored: Stored) -> Iterator[Step]:
    """The groups with handlers: they store nothing; how far each has come is known, and when not."""
    address = stored.address
    rows = Position.objects.filter(stores=False, topic=address.topic, partition=address.partition)
    for position in rows.filter(topic_id=address.topic_id) if address.topic_id else rows:
        name = _("Handled by %(group)s") % {"group": position.group}
        if position.next_offset > address.offset >= position.start_offset:
            yield Step(name, detail=_by(position, address.offset) + "; " + _("the time is not recorded"))
        elif position.next_offset == address.offset and position.tries:
            yield Step(
                name, detail=_("being tried, so far %(count)d times") % {"count": position.tries}, state="waiting"
            )
        elif position.next_offset <= address.offset:
            left = address.offset - position.next_offset
            yield Step(name, detail=_("not yet: %(count)d before it") % {"count": left}, state="waiting")


def _letters(stored: Stored, caller: Caller) -> Iterator[Step]:
    address = stored.address
    letters = DeadLetter.objects.using(router.db_for_write(DeadLetter)).filter(
        topic=address.topic, partition=address.partition, offset=address.offset
    )
    for letter in letters.filter(topic_id=address.topic_id) if address.topic_id else letters:
        cause = f": {letter.cause}" if caller.may(LETTERS) else ""
        detail = _("after %(count)d tries") % {"count": letter.tries} + cause
        yield Step(_("Dead letter of %(group)s") % {"group": letter.group}, letter.made_at, detail, "failed")
        if letter.state != DeadLetter.State.WAITING:
            state = "done" if letter.state == DeadLetter.State.RESENT else "waiting"
            by = _("by %(name)s") % {"name": letter.changed_by} if letter.changed_by else ""
            yield Step(letter.get_state_display().capitalize(), letter.changed_at, by, state)


def _by(position: Position, offset: int) -> str:
    writer = owners.writer(position, offset)
    return _("by the process %(name)s") % {"name": writer} if writer else _("the process is not recorded")


def _accepted(message: Message | None) -> tuple[Step, datetime | None]:
    """How it was accepted and when it was acknowledged, where the row of the outbox or of the request is still kept."""
    event_id = None if message is None else _event_id(message)
    name = _("Accepted")
    if event_id is not None:
        events = OutboxEvent.objects.using(router.db_for_write(OutboxEvent)).filter(event_id=event_id)
        if event := events.only("created_at", "sent_at").first():
            return Step(name, event.created_at, _("in the outbox, event %(id)s") % {"id": event_id}), event.sent_at
        requests = IdempotentRequest.objects.using(router.db_for_write(IdempotentRequest)).filter(event_id=event_id)
        if request := requests.only("created_at", "answered_at", "attempt").first():
            told = _("with an Idempotency-Key, event %(id)s, attempts: %(count)d")
            detail = told % {"id": event_id, "count": request.attempt}
            return Step(name, request.created_at, detail), request.answered_at
    return Step(name, detail=_("not recorded"), state="unknown"), None


def _event_id(message: Message) -> uuid.UUID | None:
    value = dict(load_headers(message.headers)).get(EVENT_ID_HEADER)
    try:
        return uuid.UUID((value or b"").decode())
    except ValueError:
        return None
