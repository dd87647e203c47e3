"""What can go wrong in tkcons: one root, TkconsError; ``code`` for machines, ``status`` for HTTP, ``text`` for people."""

from typing import Any

from django.utils.translation import gettext_noop as _

from tk.errors import Told


class TkconsError(Told):
    text = _("Consuming failed.")
    code = "error"
    status = 500
    retry_after: int | None = None  # seconds


class StaleOwner(TkconsError):
    text = _("Another consumer owns this partition now; nothing of this batch was stored.")
    code = "stale_owner"
    status = 409


class SinkUnavailable(TkconsError):
    text = _("The sink cannot store now; the consumer waits and tries again.")
    code = "sink_unavailable"
    status = 503


class RetryLater(TkconsError):
    text = _("This batch was not stored now: its partition rests, the others go on.")
    code = "retry_later"
    status = 503

    def __init__(self, message: str = "", *, seconds: float, next_offset: int | None = None) -> None:
        """seconds: how long the partition rests. next_offset: the position, where the sink has moved it on."""
        super().__init__(message)
        self.seconds = seconds
        self.next_offset = next_offset


class SinkDamaged(TkconsError):
    text = _("The sink has less than was recorded: stop and look before anything is written to it.")
    code = "sink_damaged"


class SinkLocked(TkconsError):
    text = _("Another process writes to this sink.")
    code = "sink_locked"
    status = 409


class SearchTookTooLong(TkconsError):
    text = _("The search was stopped after SEARCH_SECONDS: say a group, a state or a time as well.")
    code = "search_took_too_long"
    status = 422


class OffsetLost(TkconsError):
    text = _("Kafka does not have the offset at the stored position: `manage.py group skip` or `seek` goes on.")
    code = "offset_lost"


class UnknownGroup(TkconsError):
    text = _("There is no such group: see the sinks in TKCONS.")
    code = "unknown_group"
    status = 404


class GroupRunning(TkconsError):
    text = _("The group is running: stop it first.")
    code = "group_running"
    status = 409


class Reject(TkconsError):
    """For handlers to raise. `received`: which message of a batch it is; without it the batch is cut until it is found."""

    text = _("This message can never be handled: no further try, it becomes a dead letter.")
    code = "rejected"
    status = 422

    def __init__(self, message: str = "", received: Any = None) -> None:
        super().__init__(message)
        self.received = received


class HandlerOverdue(TkconsError):
    text = _("A handler did not return within its timeout.")
    code = "handler_overdue"
    status = 504


class ClockPutBack(TkconsError):
    text = _("The wall clock was put back: the consumer begins anew.")
    code = "clock_put_back"
    status = 503


class CannotSeek(TkconsError):
    text = _("The group cannot go there.")
    code = "cannot_seek"
    status = 409


class UnknownLetter(TkconsError):
    text = _("There is no such dead letter waiting.")
    code = "unknown_letter"
    status = 404
