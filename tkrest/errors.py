"""What can go wrong in tkrest: one root, RestError; ``error_code`` is the REST Proxy's, its first three digits the status.

https://docs.confluent.io/platform/current/kafka-rest/api.html#errors
"""

from typing import ClassVar

from confluent_kafka import KafkaError

from tk.errors import (
    BrokerRefused,
    Forbidden,
    InvalidPartition,
    InvalidRecord,
    NotSent,
    OutcomeUnknown,
    TkError,
    TooLarge,
    Unauthenticated,
    UnknownTopic,
)
from tkcons.errors import TkconsError


class RestError(Exception):
    """The request failed."""

    error_code: ClassVar[int] = 500
    retry_after: ClassVar[int | None] = None  # seconds

    def __init__(self, message: str = "") -> None:
        super().__init__(message or " ".join((type(self).__doc__ or "").split()))


class BadRequest(RestError):
    """The request cannot be understood."""

    error_code = 400


class NoSuchAddress(RestError):
    """There is nothing at this address."""

    error_code = 404


class PartitionNotFound(RestError):
    """Partition not found."""

    error_code = 40402


class InstanceNotFound(RestError):
    """Consumer instance not found: it was never made in this process, was deleted, or has expired."""

    error_code = 40403


class MethodNotAllowed(RestError):
    """The method is not for this address."""

    error_code = 405

    def __init__(self, allowed: str) -> None:
        super().__init__(f"The method is not for this address; {allowed} is.")
        self.allowed = allowed


class NotAcceptable(RestError):
    """Nothing that the Accept header asks for can be given."""

    error_code = 406


class FormatMismatch(RestError):
    """The embedded format that the Accept header asks for is not that of this consumer instance."""

    error_code = 40601


class InstanceExists(RestError):
    """A consumer instance of this name exists already in the group."""

    error_code = 40902


class IllegalState(RestError):
    """The consumer instance cannot do this now."""

    error_code = 40903


class BodyTooLarge(RestError):
    """The body is larger than this installation takes."""

    error_code = 413


class UnsupportedFormat(RestError):
    """Send application/vnd.kafka.json.v2+json or application/vnd.kafka.binary.v2+json."""

    error_code = 415


class Unprocessable(RestError):
    """The request's body is JSON, but not what belongs here."""

    error_code = 422


class NotJson(RestError):
    """A record is not JSON: read it with a binary instance, or go past it by POST .../positions."""

    error_code = 42203


class InvalidConsumer(RestError):
    """A consumer cannot be configured so."""

    error_code = 42204


class InvalidPayload(RestError):
    """A record of the request cannot be sent."""

    error_code = 42206


class TooManyInstances(RestError):
    """There are too many consumer instances: delete one that is not needed."""

    error_code = 429
    retry_after = 60


class KafkaFailed(RestError):
    """Kafka answered with an error."""

    error_code = 50002


NO_TOPIC = {KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError._UNKNOWN_PARTITION, KafkaError.UNKNOWN_TOPIC_ID}
_AWAY = {
    *(KafkaError._TIMED_OUT, KafkaError._TRANSPORT, KafkaError._ALL_BROKERS_DOWN, KafkaError._WAIT_COORD),
    *(KafkaError.NOT_COORDINATOR, KafkaError.COORDINATOR_NOT_AVAILABLE, KafkaError.COORDINATOR_LOAD_IN_PROGRESS),
    # A partition's leader has just moved, or is a moment behind.
    *(KafkaError.NOT_LEADER_FOR_PARTITION, KafkaError.LEADER_NOT_AVAILABLE, KafkaError.OFFSET_NOT_AVAILABLE),
    *(KafkaError.UNKNOWN_LEADER_EPOCH, KafkaError.FENCED_LEADER_EPOCH),
}
_REBALANCE = {KafkaError.ILLEGAL_GENERATION, KafkaError.UNKNOWN_MEMBER_ID, KafkaError.REBALANCE_IN_PROGRESS}


def of_kafka(error: KafkaError) -> RestError | TkError:
    """What the answer to a consumer's question says."""
    code = error.code()
    if code in NO_TOPIC:
        return UnknownTopic("The broker has no such topic.")
    if error.retriable() or code in _AWAY:
        return NotSent(f"Kafka does not answer ({error.str()}): try again.")
    if code in _REBALANCE:
        return IllegalState(f"The group is rebalancing ({error.str()}): read again.")
    return KafkaFailed(f"Kafka error: {error.str()}")


_OURS: tuple[tuple[type[TkError], int], ...] = (  # the first that fits
    (Unauthenticated, 40101),
    (Forbidden, 40301),
    (UnknownTopic, 40401),
    (InvalidPartition, 40402),
    (TooLarge, 413),
    (InvalidRecord, 42206),
    (NotSent, 50302),
    (OutcomeUnknown, 50401),
    (BrokerRefused, 50002),
)


def code(error: RestError | TkError | TkconsError) -> int:
    """The REST Proxy's code of any error of the three apps."""
    if isinstance(error, RestError):
        return error.error_code
    if isinstance(error, TkError):
        for kind, number in _OURS:
            if isinstance(error, kind):
                return number
    return error.status


def status(number: int) -> int:
    """The HTTP status of a code: its first three digits."""
    return number if number < 1_000 else number // 100
