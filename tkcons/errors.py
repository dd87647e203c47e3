"""What can go wrong in tkcons: one root, TkconsError; ``code`` for machines, ``status`` for HTTP."""

from typing import Any


class TkconsError(Exception):
    """Consuming failed."""

    code = "error"
    status = 500
    retry_after: int | None = None  # seconds

    def __init__(self, message: str = "") -> None:
        super().__init__(message or " ".join((type(self).__doc__ or "").split()))


class StaleOwner(TkconsError):
    """Another consumer owns this partition now; nothing of this batch was stored."""

    code = "stale_owner"
    status = 409


class SinkUnavailable(TkconsError):
    """The sink cannot store now; the consumer waits and tries again."""

    code = "sink_unavailable"
    status = 503


class RetryLater(TkconsError):
    """This batch was not stored now: its partition rests, the others go on."""

    code = "retry_later"
    status = 503

    def __init__(self, message: str = "", *, seconds: float, next_offset: int | None = None) -> None:
        """seconds: how long the partition rests. next_offset: the position, where the sink has moved it on."""
        super().__init__(message)
        self.seconds = seconds
        self.next_offset = next_offset


class SinkDamaged(TkconsError):
    """The sink has less than was recorded: stop and look before anything is written to it."""

    code = "sink_damaged"


class SinkLocked(TkconsError):
    """Another process writes to this sink."""

    code = "sink_locked"
    status = 409


class SearchTookTooLong(TkconsError):
    """The search was stopped after SEARCH_SECONDS: say a group, a state or a time as well."""

    code = "search_took_too_long"
    status = 422


class OffsetLost(TkconsError):
    """Kafka does not have the offset at the stored position: `manage.py group skip` or `seek` goes on."""

    code = "offset_lost"


class UnknownGroup(TkconsError):
    """There is no such group: see the sinks in TKCONS."""

    code = "unknown_group"
    status = 404


class GroupRunning(TkconsError):
    """The group is running: stop it first."""

    code = "group_running"
    status = 409


class Reject(TkconsError):
    """This message can never be handled: no further try, it becomes a dead letter.

    For handlers to raise. `received`: which message of a batch it is; without it the batch is cut until it is found.
    """

    code = "rejected"
    status = 422

    def __init__(self, message: str = "", received: Any = None) -> None:
        super().__init__(message)
        self.received = received


class HandlerOverdue(TkconsError):
    """A handler did not return within its timeout."""

    code = "handler_overdue"
    status = 504


class ClockPutBack(TkconsError):
    """The wall clock was put back: the consumer begins anew."""

    code = "clock_put_back"
    status = 503


class CannotSeek(TkconsError):
    """The group cannot go there."""

    code = "cannot_seek"
    status = 409


class UnknownLetter(TkconsError):
    """There is no such dead letter waiting."""

    code = "unknown_letter"
    status = 404
