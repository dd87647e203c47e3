"""Idempotency-Key: a request that is repeated gets the first one's answer, and its message is stored once.

A row with the message's event id is committed before the message is sent. What the brokers acknowledged is answered from the
row; what may or may not be there goes out again under the same event id, by which consumers of tkcons know it; what was
certainly not sent is forgotten.
"""

import hashlib
import logging
import re
import time
import uuid
from collections.abc import Callable
from datetime import timedelta
from typing import NamedTuple

import msgspec
from django.core.exceptions import ObjectDoesNotExist
from django.db import DatabaseError, IntegrityError, router, transaction
from django.db.models import Q, QuerySet
from django.db.models.functions import Now

from tk import producer
from tk.answer import Answer
from tk.conf import settings
from tk.errors import InFlight, InvalidIdempotencyKey, KeyReused, NotSent, OutcomeUnknown, TkError
from tk.models import IdempotentRequest
from tk.record import Receipt, Record

logger = logging.getLogger(__name__)

# Visible ASCII without the comma, with which servers join a header that came twice.
_KEY = re.compile(r"[!-+\--~]{1,255}")
GRACE_SECONDS = 5.0  # over REQUEST_TIMEOUT: after both, a request without an answer has died
PRUNED = 5_000  # rows deleted at once
PRUNE_SECONDS = 1.0


class Name(NamedTuple):
    """What makes two requests the same: who asks (tk.access.Caller.identity), how, where, with which key."""

    caller: str
    method: str
    path: str
    key: str


def once(
    name: Name, record: Record, answer: Callable[[Receipt], Answer], using: str | None = None
) -> tuple[Answer, bool]:
    """Send the record unless that was done under this name; give the answer, and whether it is a repeat's.

    `answer` makes the first answer. using: the alias of the database (default: the router's). Raises
    InvalidIdempotencyKey, KeyReused, InFlight, and what `producer.send` raises; NotSent too where the database is away.
    """
    if not _KEY.fullmatch(name.key):
        raise InvalidIdempotencyKey
    fingerprint = _fingerprint(name.path, record)
    name = name._replace(path=name.path[:500])  # as much as the column holds
    alias = using or router.db_for_write(IdempotentRequest)
    try:
        claim = _claim(name, fingerprint, alias)
    except DatabaseError as error:
        logger.warning("no idempotency", extra={"action": "produce", "error": str(error)})
        raise NotSent("The database that knows Idempotency-Keys does not answer: try again.") from error
    if isinstance(claim, Answer):
        return claim, True
    try:
        receipt = producer.send(record, claim.event_id)
    except OutcomeUnknown:
        claim.end(sent=None)
        raise
    except TkError:
        claim.end(sent=False)
        raise
    given = claim.remember(answer(receipt))
    _prune(alias)
    return given, False


class _Claim:
    """The right to send under a name, until GRACE_SECONDS after REQUEST_TIMEOUT. attempt: 1 in the first request."""

    def __init__(self, row: IdempotentRequest, using: str) -> None:
        self.event_id: uuid.UUID = row.event_id
        self.attempt: int = row.attempt
        self._rows = IdempotentRequest.objects.using(using).filter(pk=row.pk)

    def end(self, sent: bool | None) -> None:  # noqa: FBT001
        """Without an answer. sent None: not known. The row goes only if no attempt may have reached the brokers."""
        mine = self._rows.filter(attempt=self.attempt, answer=None)
        try:
            if sent is None or self.attempt > 1:
                mine.update(locked_until=None)
            else:
                mine.delete()
        except DatabaseError as error:  # the claim ends by itself
            logger.warning("claim not ended", extra={"action": "produce", "error": str(error)})

    def remember(self, answer: Answer) -> Answer:
        """Record the answer and give it, or the one that another attempt, taken for dead, was first to record."""
        try:
            given = {"answer": answer.body, "content_type": answer.content_type, "answered_at": Now()}
            if not self._rows.filter(answer=None).update(**given):
                row = self._rows.exclude(answer=None).first()
                return answer if row is None else _recorded(row)
        except DatabaseError as error:  # the message is there and its sender must hear it
            logger.warning("answer not recorded", extra={"action": "produce", "error": str(error)})
        return answer


def _claim(name: Name, fingerprint: str, using: str) -> _Claim | Answer:
    """Every step is one statement that compares before it sets, so that of racing requests one alone gets the claim."""
    until = Now() + timedelta(seconds=settings.REQUEST_TIMEOUT + GRACE_SECONDS)
    row = IdempotentRequest(**name._asdict(), fingerprint=fingerprint, event_id=uuid.uuid4(), locked_until=until)
    same = IdempotentRequest.objects.using(using).filter(**name._asdict())
    for _ in range(2):
        try:
            with transaction.atomic(using=using, durable=True):  # committed before anything is sent
                row.save(using=using, force_insert=True)
                return _Claim(row, using)
        except IntegrityError:
            if not _old(same).delete()[0]:
                break
    try:
        known = same.get()
    except ObjectDoesNotExist:  # its first attempt has just been forgotten
        raise InFlight from None
    if known.fingerprint != fingerprint:
        raise KeyReused
    if known.answer is not None:
        return _recorded(known)
    free = Q(locked_until=None) | Q(locked_until__lt=Now())
    known.attempt += 1
    if not same.filter(free, attempt=known.attempt - 1, answer=None).update(attempt=known.attempt, locked_until=until):
        raise InFlight
    logger.info("sending again", extra={"action": "produce", "event": str(known.event_id), "attempt": known.attempt})
    return _Claim(known, using)


def _recorded(row: IdempotentRequest) -> Answer:
    return Answer(200, row.content_type, bytes(row.answer or b""))


def _fingerprint(path: str, record: Record) -> str:
    """Of what is sent, not of how it was written down: a form and JSON that mean the same are the same request."""
    return hashlib.sha256(msgspec.msgpack.encode((path, record))).hexdigest()


def _old(rows: "QuerySet[IdempotentRequest]") -> "QuerySet[IdempotentRequest]":
    return rows.filter(created_at__lt=Now() - timedelta(seconds=settings.IDEMPOTENCY_SECONDS))


_prune_at = 0.0


def _prune(using: str) -> None:
    """Delete some of what is too old: the requests themselves do it, a process once in PRUNE_SECONDS."""
    global _prune_at
    now = time.monotonic()
    if now < _prune_at:
        return
    _prune_at = now + PRUNE_SECONDS
    rows = IdempotentRequest.objects.using(using)
    try:
        old = list(_old(rows).order_by("created_at").values_list("pk", flat=True)[:PRUNED])
        if old:
            rows.filter(pk__in=old).delete()
    except DatabaseError as error:  # the next one tries
        logger.warning("not pruned", extra={"action": "prune", "error": str(error)})
