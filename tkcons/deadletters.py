"""Dead letters: made by a handler's group, looked at, handled again or discarded by people."""

import hashlib
import logging
import time
import traceback
import uuid
from collections.abc import Collection, Iterable, Iterator
from datetime import datetime
from itertools import islice
from typing import Any

from confluent_kafka import TIMESTAMP_CREATE_TIME, TIMESTAMP_NOT_AVAILABLE, Message
from django.db import router, transaction
from django.db.models import F, Q, QuerySet
from django.utils import timezone
from django.utils.translation import gettext_noop as _

from tk import producer, trail
from tk.access import Caller, require
from tk.errors import BrokerRefused, InvalidTimestamp, TooLarge
from tk.record import EVENT_ID_HEADER, Headers, Receipt, Record, dump_headers, load_headers
from tkcons import reader
from tkcons.bounded import TookTooLong, within
from tkcons.conf import settings
from tkcons.errors import SearchTookTooLong, StaleOwner, UnknownLetter
from tkcons.lookups import Contains
from tkcons.masking import mask
from tkcons.models import DeadLetter
from tkcons.sinks.base import Place

logger = logging.getLogger(__name__)

SETTLE = "tkcons.settle_deadletter"
VIEW = "tkcons.view_deadletter"
HEADER = "dead-letter-"  # what the headers' names begin with that tell a letter's origin
CAUSE_CHARACTERS = 2_000
FOUND = 1_000  # by key or value at most, where fields are hidden; no page shows more
CHUNK = 20  # letters in memory while they are looked through; each may have megabytes
TRACEBACK_CHARACTERS = 8_000  # the end of it: in the database; a quarter of it in the header


def make(group: str, place: Place, message: Any, error: BaseException, tries: int) -> DeadLetter:
    """The letter for a message that could not be handled; not stored yet."""
    kind, timestamp = message.timestamp()
    name = f"{group}\0{place.topic_id}\0{place.partition}\0{message.offset()}"
    now = timezone.now()
    return DeadLetter(
        id=hashlib.blake2b(name.encode(), digest_size=16).hexdigest(),
        group=group,
        topic=place.topic,
        topic_id=place.topic_id,
        partition=place.partition,
        offset=message.offset(),
        timestamp=None if kind == TIMESTAMP_NOT_AVAILABLE else timestamp,
        key=message.key(),
        value=message.value(),
        headers=dump_headers(tuple(message.headers() or ())),
        cause=_cause(error),
        traceback=_traceback(error),
        tries=tries,
        made_at=now,
        changed_at=now,
    )


def send(letter: DeadLetter, topic: str) -> None:
    """Send the letter to its topic and note where it is. A letter that the brokers refuse stays in the database alone.

    Its event id is the letter's, so that a repeat, sent around a crash, is recognised. Raises NotSent, OutcomeUnknown,
    or UnknownTopic: it must be sent again.
    """
    record = Record(topic, _bytes(letter.value), _bytes(letter.key), _headers(letter), None, letter.timestamp or None)
    try:
        receipt: Receipt = producer.forward(record)
    except (BrokerRefused, InvalidTimestamp, TooLarge) as error:
        letter.cause = f"{letter.cause} (not in {topic}: {error})"
        return
    letter.dead_topic, letter.dead_partition, letter.dead_offset = receipt.topic, receipt.partition, receipt.offset


def store(letter: DeadLetter, using: str) -> None:
    """List the letter, inside the transaction that moves the position past its message; once, however often it is made."""
    fields = [field.name for field in DeadLetter._meta.concrete_fields if not field.primary_key]
    DeadLetter.objects.using(using).bulk_create(
        [letter], update_conflicts=True, unique_fields=["id"], update_fields=fields
    )


# What people do.


def seen(caller: Caller, using: str | None = None) -> QuerySet[DeadLetter]:
    """The letters of the topics that the caller may see, newest first. Raises Unauthenticated or Forbidden."""
    require(caller, VIEW)
    letters = DeadLetter.objects.using(using or _using()).order_by("-made_at", "-pk")
    return letters if not caller.topics else letters.filter(topic__in=_seen_topics(letters, caller))


def waiting(caller: Caller, using: str | None = None) -> QuerySet[DeadLetter]:
    """The letters that nobody has settled, newest first. Raises Unauthenticated or Forbidden."""
    return seen(caller, using).filter(state__in=[DeadLetter.State.WAITING, DeadLetter.State.REQUESTED])


def find(
    caller: Caller,
    *,
    group: str = "",
    topic: str = "",
    state: str = "",
    since: datetime | None = None,
    until: datetime | None = None,
    text: str = "",
    before: tuple[datetime, str] | None = None,
    limit: int = 50,
) -> list[DeadLetter]:
    """Letters that match everything given, newest first, without values and tracebacks.

    until: exclusive. before: `made_at` and id of the last letter of the page before. Raises Unauthenticated, Forbidden
    or SearchTookTooLong.
    """
    letters = seen(caller).defer("key", "value", "headers", "traceback")
    exact = {"group": group, "topic": topic, "state": state, "made_at__gte": since, "made_at__lt": until}
    letters = letters.filter(**{name: value for name, value in exact.items() if value})
    if before is not None:
        made, key = before
        letters = letters.filter(made_at__lte=made).exclude(made_at=made, pk__gte=key)
    if not text:
        return list(letters[:limit])
    return search(letters, text, limit, in_messages=caller.may(reader.VIEW))


def one(caller: Caller, key: str) -> DeadLetter:
    """The letter of this id. Raises Unauthenticated, Forbidden or UnknownLetter."""
    found = seen(caller).filter(pk=key).first()
    if found is None:
        raise UnknownLetter(_("There is no dead letter %(key)r."), key=key[:40])
    return found


def require_settle(caller: Caller) -> None:
    """Raise Unauthenticated or Forbidden unless the caller may resend and discard."""
    require(caller, SETTLE)


def matches(text: str) -> Q:
    """Letters with this text in group, topic, cause, key or value as they are stored: for who may see all of it."""
    return _told(text) | _held(text)


def search(letters: QuerySet[DeadLetter], text: str, limit: int, *, in_messages: bool) -> list[DeadLetter]:
    """So many letters that match by what people see of them: a masked value cannot be guessed at.

    With fields to hide, so many as FOUND are found by key or value, the first in the order of `letters`.
    in_messages: whether keys and values are looked at; who may not read them cannot guess them either. Raises
    SearchTookTooLong.
    """
    try:
        with within(settings.SEARCH_SECONDS, letters.db):
            return list(_matching(letters, text, in_messages=in_messages)[:limit])
    except TookTooLong as error:
        raise SearchTookTooLong from error


def _matching(letters: QuerySet[DeadLetter], text: str, *, in_messages: bool) -> QuerySet[DeadLetter]:
    hidden, data = mask(), text.encode()
    if not in_messages:
        return letters.filter(_told(text))
    if not hidden:
        return letters.filter(matches(text))
    held = letters.filter(_held(text)).defer(None).only("key", "value").iterator(CHUNK)
    shown = (
        letter.pk
        for letter in _in_time(held)
        if any(data in (hidden.data(_bytes(part)) or b"") for part in (letter.key, letter.value))
    )
    return letters.filter(_told(text) | Q(pk__in=list(islice(shown, FOUND))))


def _in_time(letters: Iterable[DeadLetter]) -> Iterator[DeadLetter]:
    """PostgreSQL bounds a statement, and each part of these is one. Raises TookTooLong."""
    deadline = time.monotonic() + settings.SEARCH_SECONDS
    for letter in letters:
        if time.monotonic() > deadline:
            raise TookTooLong
        yield letter


def _told(text: str) -> Q:
    return Q(group__contains=text) | Q(topic__contains=text) | Q(cause__contains=text) | Q(pk=text)


def _held(text: str) -> Q:
    data = text.encode()
    return Q(Contains("key", data)) | Q(Contains("value", data))


def resend(ids: Collection[str], caller: Caller, using: str | None = None) -> int:
    """Have these letters handled again: by their group's handler alone, under a new event id, when the group runs.

    Gives how many were waiting. Raises Unauthenticated, Forbidden, or UnknownLetter when none of them was.
    """
    return _change(ids, DeadLetter.State.REQUESTED, caller, using)


def discard(ids: Collection[str], caller: Caller, using: str | None = None) -> int:
    """Give these letters up; gives how many were waiting. Raises Unauthenticated, Forbidden or UnknownLetter."""
    return _change(ids, DeadLetter.State.DISCARDED, caller, using)


def _change(ids: Collection[str], state: DeadLetter.State, caller: Caller, using: str | None) -> int:
    require(caller, SETTLE)
    letters = DeadLetter.objects.using(using or _using()).filter(
        pk__in=[key for key in ids if "\0" not in key],  # which PostgreSQL does not even compare
        state__in=[DeadLetter.State.WAITING, DeadLetter.State.REQUESTED],
    )
    if caller.topics:
        letters = letters.filter(topic__in=_seen_topics(letters, caller))
    chosen = list(letters.only("group", "topic", "partition", "offset"))
    changed = letters.update(state=state, changed_at=timezone.now(), changed_by=caller.name, attempt=F("attempt") + 1)
    if not changed:
        raise UnknownLetter
    for letter in chosen:
        trail.note(caller, str(letter), state.value, row=letter)
    logger.info("dead letters", extra={"action": state.value, "records": changed, "by": caller.name})
    return changed


def _seen_topics(letters: QuerySet[DeadLetter], caller: Caller) -> list[str]:
    names: Iterable[str] = letters.order_by().values_list("topic", flat=True).distinct()
    return [name for name in names if caller.sees(name)]


def prune(before: datetime, using: str) -> int:
    """Remove settled letters that were changed before this time; gives how many. Those that wait are kept."""
    settled = [DeadLetter.State.RESENT, DeadLetter.State.DISCARDED]
    letters = DeadLetter.objects.using(using).filter(state__in=settled, changed_at__lt=before)
    return letters.delete()[0]


# What the group's runner does.


def take(group: str, limit: int, using: str) -> list[DeadLetter]:
    """Some letters that shall be handled again. They wait once more from now on, so that one that kills its process
    is not tried for ever; `settle` is what ends their waiting."""
    letters = DeadLetter.objects.using(using).filter(group=group, state=DeadLetter.State.REQUESTED)
    if not letters.exists():
        return []
    with transaction.atomic(using=using):
        taken = list(letters.select_for_update(skip_locked=True).order_by("made_at")[:limit])
        for letter in taken:
            letter.attempt += 1
            letter.state = DeadLetter.State.WAITING
            letter.changed_at = timezone.now()
            letter.save(using=using, update_fields=["attempt", "state", "changed_at"])
    return taken


def as_message(letter: DeadLetter) -> Message:
    """The message as it was, under a new event id: what the handler did before does not make this a repeat."""
    headers = [(name, value) for name, value in load_headers(letter.headers) if name != EVENT_ID_HEADER]
    timestamp = (TIMESTAMP_NOT_AVAILABLE, -1) if letter.timestamp is None else (TIMESTAMP_CREATE_TIME, letter.timestamp)
    return Message(
        topic=letter.topic,
        partition=letter.partition,
        offset=letter.offset,
        key=_bytes(letter.key),
        value=_bytes(letter.value),
        headers=[*headers, (EVENT_ID_HEADER, str(uuid.uuid4()).encode())],
        timestamp=timestamp,
    )


def settle(letter: DeadLetter, using: str) -> None:
    """The letter has been handled: inside the handler's transaction. Raises StaleOwner when somebody else has taken it."""
    mine = DeadLetter.objects.using(using).filter(pk=letter.pk, attempt=letter.attempt, state=DeadLetter.State.WAITING)
    if not mine.update(state=DeadLetter.State.RESENT, changed_at=timezone.now()):
        raise StaleOwner(f"The dead letter {letter.pk} was settled by somebody else.")


def fail_again(letter: DeadLetter, error: BaseException, using: str) -> None:
    """The letter goes on waiting, with its new cause."""
    DeadLetter.objects.using(using).filter(pk=letter.pk, attempt=letter.attempt).update(
        cause=_cause(error), traceback=_traceback(error), tries=F("tries") + 1, changed_at=timezone.now()
    )


def _headers(letter: DeadLetter) -> Headers:
    """The message's own headers, then the letter's."""
    own = tuple((name, value) for name, value in load_headers(letter.headers) if name.lower() != EVENT_ID_HEADER)
    told = {
        "id": letter.pk,
        "group": letter.group,
        "topic": letter.topic,
        "topic-id": letter.topic_id,
        "partition": str(letter.partition),
        "offset": str(letter.offset),
        "cause": letter.cause,
        "traceback": letter.traceback[-TRACEBACK_CHARACTERS // 4 :],
        "tries": str(letter.tries),
    }
    return (
        *own,
        *((HEADER + name, value.encode("utf-8", "replace")) for name, value in told.items()),
        (EVENT_ID_HEADER, f"dead-{letter.pk}".encode()),
    )


def _cause(error: BaseException) -> str:
    return _storable(f"{type(error).__qualname__}: {error}"[:CAUSE_CHARACTERS])


def _traceback(error: BaseException) -> str:
    return _storable("".join(traceback.format_exception(error))[-TRACEBACK_CHARACTERS:])


def _storable(text: str) -> str:
    """An error may cite what no database stores as text: NUL, or half a surrogate pair, which JSON may escape."""
    return text.encode("utf-8", "backslashreplace").decode().replace("\0", "\\0")


def _bytes(value: Any) -> bytes | None:
    return None if value is None else bytes(value)


def _using() -> str:
    return router.db_for_write(DeadLetter)
