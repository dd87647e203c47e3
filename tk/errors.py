"""What can go wrong in tk: one root, TkError; ``code`` for machines, ``status`` for HTTP, ``text`` for people."""

from typing import ClassVar, Protocol

from django.utils.translation import gettext
from django.utils.translation import gettext_noop as _


class HttpError(Protocol):
    """An error that knows how to be an answer: those of tk and of the apps that rest on it."""

    @property
    def code(self) -> str: ...

    @property
    def status(self) -> int: ...

    @property
    def retry_after(self) -> int | None: ...


class Told(Exception):
    """An error with a message of its own, or its class's `text`; values: for `%(name)s` in it.

    str() is English, for programs and logs; `shown` is for a page, in the language of who sees it.
    """

    text: ClassVar[str]
    _given: tuple[str, dict[str, object]] | None = None

    def __init__(self, message: str = "", **values: object) -> None:
        message = message or self.text
        super().__init__(message % values if values else message)
        if values:  # a batch may hold very many errors that have none
            self._given = message, values

    @property
    def shown(self) -> str:
        if self._given is None:
            return gettext(str(self))
        message, values = self._given
        return gettext(message) % values


class TkError(Told):
    text = _("Producing failed.")
    code: ClassVar[str] = "error"
    status: ClassVar[int] = 500
    retry_after: ClassVar[int | None] = None  # seconds


class BadRequest(TkError):
    text = _("The request cannot be understood.")
    code = "bad_request"
    status = 400


class InvalidRecord(BadRequest):
    text = _("The record breaks a rule of Kafka or of this installation.")
    code = "invalid_record"


class MissingMessage(InvalidRecord):
    text = _("There is no message: send a non-empty `message`.")
    code = "missing_message"


class BadEncoding(InvalidRecord):
    text = _("The text is not valid UTF-8, or has a NUL in it.")
    code = "bad_encoding"


class TooLarge(InvalidRecord):
    text = _("The message is larger than this installation takes.")
    code = "too_large"
    status = 413


class InvalidTopic(InvalidRecord):
    text = _("A topic's name has 1 to 249 letters, digits, dots, underscores and hyphens.")
    code = "invalid_topic"


class UnknownTopic(InvalidRecord):
    text = _("The broker has no such topic: create it first.")
    code = "unknown_topic"
    status = 404


class TopicExists(InvalidRecord):
    text = _("There is a topic of this name already.")
    code = "topic_exists"
    status = 409


class InvalidReplication(InvalidRecord):
    text = _("A replication factor is 1 to the number of brokers.")
    code = "invalid_replication"


class InvalidConfig(InvalidRecord):
    text = _("The topic's configuration has an error.")
    code = "invalid_config"


class InvalidKey(InvalidRecord):
    text = _("The key cannot be used.")
    code = "invalid_key"


class InvalidHeader(InvalidRecord):
    text = _("A header cannot be used.")
    code = "invalid_header"


class InvalidPartition(InvalidRecord):
    text = _("The topic has no such partition.")
    code = "invalid_partition"


class InvalidTimestamp(InvalidRecord):
    text = _("A timestamp is milliseconds since 1970, not negative.")
    code = "invalid_timestamp"


class BadHost(BadRequest):
    text = _("The Host header is not one of this installation: see ALLOWED_HOSTS.")
    code = "bad_host"


class SlowBody(BadRequest):
    text = _("The body did not arrive in time.")
    code = "slow_body"
    status = 408


class InvalidIdempotencyKey(BadRequest):
    text = _("An Idempotency-Key is 1 to 255 visible ASCII characters without a comma, given once.")
    code = "invalid_idempotency_key"


class KeyReused(BadRequest):
    text = _("This Idempotency-Key was used for another message: a new message needs a new key.")
    code = "idempotency_key_reused"
    status = 422


class InFlight(TkError):
    text = _("A request with this Idempotency-Key is being answered: ask again in a moment.")
    code = "in_flight"
    status = 409
    retry_after = 1


class Unauthenticated(TkError):
    text = _("Say who you are: log in, or send `Authorization: Bearer <token>`.")
    code = "unauthenticated"
    status = 401


class Forbidden(TkError):
    text = _("You have no permission for this.")
    code = "forbidden"
    status = 403


class CrossSite(Forbidden):
    text = _("The browser says that another site sent this request.")
    code = "cross_site"


class NotSent(TkError):
    text = _("The broker did not answer and the message was certainly not sent: try again.")
    code = "not_sent"
    status = 503
    retry_after = 2


class QueueFull(NotSent):
    text = _("Too many messages wait for the broker; this one was not taken: try again.")
    code = "queue_full"
    retry_after = 1


class RegistryUnavailable(NotSent):
    text = _("The schema registry does not answer, and the message was not sent: try again.")
    code = "registry_unavailable"


class OutcomeUnknown(TkError):
    text = _(
        "The broker did not acknowledge in time: the message may or may not be there; sending it again may double it."
    )
    code = "outcome_unknown"
    status = 504


class BrokerRefused(TkError):
    text = _("The broker refused the message.")
    code = "broker_refused"
    status = 502


class UnknownEvent(TkError):
    text = _("None of these events of the outbox has failed and waits for a decision.")
    code = "unknown_event"
    status = 404


class UnsupportedMedia(BadRequest):
    text = _("Send a form, JSON, or text in UTF-8, without a content encoding.")
    code = "unsupported_media_type"
    status = 415


class GetRefused(TkError):
    text = _("A GET changes nothing here: send a POST.")
    code = "method_not_allowed"
    status = 405
