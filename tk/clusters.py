"""The cluster's topics for people: what there is, as Kafka tells it at this moment, and making and deleting them.

The hot path asks tk.topics, which remembers. Every answer here comes, or is refused, in bounded time.
"""

import logging
import time
from collections.abc import Iterable, Mapping
from concurrent.futures import Future
from typing import Any, cast

import msgspec
from confluent_kafka import KafkaError, KafkaException, TopicCollection, TopicPartition
from confluent_kafka.admin import ConfigResource, NewTopic, OffsetSpec
from django.utils.translation import gettext_noop as _

from tk import topics, trail
from tk.access import Caller, require
from tk.errors import (
    BrokerRefused,
    Forbidden,
    InvalidConfig,
    InvalidPartition,
    InvalidReplication,
    InvalidTopic,
    NotSent,
    OutcomeUnknown,
    TkError,
    TopicExists,
    UnknownTopic,
)
from tk.record import check_topic
from tk.topics import ASK_SECONDS

logger = logging.getLogger(__name__)

MANAGE = "tk.manage_topics"
CHANGE_SECONDS = 8.0  # how long making or deleting may take
MAX_PARTITIONS = 1_000  # of a topic made here: a slip of the finger must not cost the cluster
# What may be set when a topic is made here; everything else is the cluster's administrator's.
CONFIG = (
    "cleanup.policy",
    "retention.ms",
    "retention.bytes",
    "min.insync.replicas",
    "max.message.bytes",
    "compression.type",
    "message.timestamp.type",
)


class Partition(msgspec.Struct, frozen=True):
    """A partition: brokers by id (leader None: there is none now), first offset and the one after the last, if known.

    sizes: bytes on disk of each replica, as tk.sizes measures them; empty where nobody has.
    """

    number: int
    leader: int | None
    replicas: tuple[int, ...]
    in_sync: tuple[int, ...]
    low: int | None = None
    high: int | None = None
    sizes: tuple[int | None, ...] = ()

    @property
    def size(self) -> int | None:
        """Bytes of the leader's copy: of the messages as they are stored, compressed."""
        return dict(zip(self.replicas, self.sizes, strict=False)).get(-1 if self.leader is None else self.leader)

    @property
    def copies(self) -> int | None:
        """Bytes of all replicas together."""
        return _sum(self.sizes) if self.sizes else None

    @property
    def records(self) -> int | None:
        """At most so many: offsets of control records, of aborted and of compacted ones count too."""
        return None if self.low is None or self.high is None else self.high - self.low


class Described(msgspec.Struct, frozen=True):
    """A topic as Kafka describes it."""

    name: str
    id: str
    internal: bool
    partitions: tuple[Partition, ...]

    @property
    def records(self) -> int | None:
        return _sum(partition.records for partition in self.partitions)

    @property
    def size(self) -> int | None:
        """Bytes of the leaders' copies."""
        return _sum(partition.size for partition in self.partitions)

    @property
    def copies(self) -> int | None:
        """Bytes of all copies on all brokers."""
        return _sum(partition.copies for partition in self.partitions)

    @property
    def replication(self) -> int:
        return max((len(partition.replicas) for partition in self.partitions), default=0)

    @property
    def under_replicated(self) -> int:
        """Partitions whose followers are not all in sync."""
        return sum(len(partition.in_sync) < len(partition.replicas) for partition in self.partitions)


class Option(msgspec.Struct, frozen=True):
    """An entry of a topic's configuration. own: set on the topic itself, and not the broker's or Kafka's default."""

    name: str
    value: str | None  # None: Kafka keeps it secret
    own: bool


def _sum(numbers: Iterable[int | None]) -> int | None:
    """None where one of them is not known."""
    known = list(numbers)
    return None if None in known else sum(number or 0 for number in known)


def is_internal(name: str) -> bool:
    """Whether the name is one of Kafka's own or of its tools', which are never shown, made or deleted here."""
    return name.startswith("__")


def names() -> list[str]:
    """Every topic's name but the internal ones', sorted. Raises NotSent."""
    try:
        seen = topics.client().list_topics(timeout=ASK_SECONDS)
    except KafkaException as error:
        raise _down(error) from error
    return sorted(name for name in seen.topics if not is_internal(name))


def describe(wanted: Iterable[str]) -> list[Described]:
    """These topics with their offsets, in this order, without those that are not there. Raises NotSent."""
    wanted = list(wanted)
    if not wanted:
        return []
    asked = topics.client().describe_topics(TopicCollection(wanted), request_timeout=ASK_SECONDS)
    found = [answer for name in wanted if (answer := _answer(asked[name])) is not None]
    offsets = _offsets([TopicPartition(topic.name, p.id) for topic in found for p in topic.partitions])
    return [
        Described(
            topic.name,
            str(topic.topic_id),
            bool(topic.is_internal),
            tuple(
                Partition(
                    p.id,
                    p.leader.id if p.leader is not None else None,
                    tuple(node.id for node in p.replicas),
                    tuple(node.id for node in p.isr),
                    *offsets.get((topic.name, p.id), (None, None)),
                )
                for p in topic.partitions
            ),
        )
        for topic in found
    ]


def configuration(name: str) -> list[Option]:
    """The topic's configuration, by name. Raises UnknownTopic or NotSent."""
    resource = ConfigResource(ConfigResource.Type.TOPIC, name)
    entries = _answer(topics.client().describe_configs([resource], request_timeout=ASK_SECONDS)[resource])
    if entries is None:
        raise UnknownTopic(_("The broker has no topic %(topic)r."), topic=name)
    own = 1  # DYNAMIC_TOPIC_CONFIG, which confluent_kafka gives as a number
    return [Option(key, entry.value, entry.source == own) for key, entry in sorted(entries.items())]


def create(
    name: str,
    caller: Caller,
    *,
    partitions: int = -1,
    replication: int = -1,
    config: Mapping[str, str] | None = None,
) -> Described:
    """Make a topic and give it as Kafka describes it; -1: as the brokers' defaults say. config: names among CONFIG.

    Raises Unauthenticated, Forbidden, InvalidTopic, InvalidPartition, InvalidReplication, InvalidConfig, TopicExists,
    BrokerRefused, NotSent, or OutcomeUnknown when the brokers did not answer in time.
    """
    require_topic(caller, MANAGE, name)
    if partitions != -1 and not 1 <= partitions <= MAX_PARTITIONS:
        raise InvalidPartition(_("A topic made here has 1 to %(most)d partitions."), most=MAX_PARTITIONS)
    if replication != -1 and not 1 <= replication < 2**15:
        raise InvalidReplication
    options = {key: value for key, value in (config or {}).items() if value != ""}
    if unknown := sorted(options.keys() - set(CONFIG)):
        raise InvalidConfig(
            _("%(name)r cannot be set here; known: %(known)s."), name=unknown[0], known=", ".join(CONFIG)
        )
    new = NewTopic(name, partitions, replication, config=options)
    _change(topics.client().create_topics([new], request_timeout=CHANGE_SECONDS)[name], name)
    logger.warning("topic created", extra={"action": "create_topic", "topic": name, "by": caller.name})
    trail.note(caller, f"topic {name}", "created", trail.ADDED)
    deadline = time.monotonic() + ASK_SECONDS
    while not (found := describe([name])) and time.monotonic() < deadline:
        time.sleep(0.05)  # the controller answers before every broker knows
    return next(iter(found), Described(name, "", internal=False, partitions=()))


def delete(name: str, caller: Caller) -> None:
    """Delete a topic and every message in it.

    Raises Unauthenticated, Forbidden, InvalidTopic, UnknownTopic, BrokerRefused, NotSent, or OutcomeUnknown when the
    brokers did not answer in time.
    """
    require_topic(caller, MANAGE, name)
    _change(topics.client().delete_topics([name], request_timeout=CHANGE_SECONDS)[name], name)
    logger.warning("topic deleted", extra={"action": "delete_topic", "topic": name, "by": caller.name})
    trail.note(caller, f"topic {name}", "deleted", trail.DELETED)


def require_topic(caller: Caller, permission: str, name: str) -> None:
    """`require` for one topic, which is none of Kafka's own. Raises Unauthenticated, Forbidden or InvalidTopic."""
    require(caller, permission)  # first: who may do nothing learns nothing
    check_topic(name)
    if is_internal(name):
        raise Forbidden(_("%(topic)r is an internal topic: it is left alone here."), topic=name)
    require(caller, permission, name)


def _offsets(places: list[TopicPartition]) -> dict[tuple[str, int], tuple[int | None, int | None]]:
    """First offset and the one after the last; None where the partition has no leader now."""
    if not places:
        return {}
    client, spec = topics.client(), cast("Any", OffsetSpec)  # its methods have no types
    first = client.list_offsets(dict.fromkeys(places, spec.earliest()), request_timeout=ASK_SECONDS)
    after = client.list_offsets(dict.fromkeys(places, spec.latest()), request_timeout=ASK_SECONDS)
    return {(place.topic, place.partition): (_offset(first[place]), _offset(after[place])) for place in places}


def _offset(asked: "Future[Any]") -> int | None:
    try:
        return int(asked.result().offset)
    except KafkaException:
        return None


def _answer(asked: "Future[Any]") -> Any:
    """What Kafka answers; None where it has no such topic. Raises NotSent."""
    try:
        return asked.result()
    except KafkaException as error:
        if error.args[0].code() in {KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError.UNKNOWN_TOPIC_ID}:
            return None
        raise _down(error) from error


def _down(error: KafkaException) -> NotSent:
    return NotSent(_("Kafka does not answer (%(error)s): try again."), error=error.args[0].str())


_ERRORS: dict[int, type[TkError]] = {
    KafkaError.TOPIC_ALREADY_EXISTS: TopicExists,
    KafkaError.TOPIC_EXCEPTION: InvalidTopic,  # a name that collides with another's
    KafkaError.INVALID_PARTITIONS: InvalidPartition,
    KafkaError.INVALID_REPLICATION_FACTOR: InvalidReplication,
    KafkaError.INVALID_CONFIG: InvalidConfig,
    KafkaError.UNKNOWN_TOPIC_OR_PART: UnknownTopic,
}


def _change(asked: "Future[Any]", name: str) -> None:
    """Wait for the brokers' answer to a change."""
    try:
        asked.result()
    except KafkaException as error:
        told: KafkaError = error.args[0]
        if told.code() in _ERRORS:
            raise _ERRORS[told.code()](told.str()) from error
        if told.code() in {KafkaError._TIMED_OUT, KafkaError._TRANSPORT, KafkaError.REQUEST_TIMED_OUT}:
            raise OutcomeUnknown(
                _(
                    "The brokers did not answer in time: whether %(topic)r was changed is not known. "
                    "Look before trying again."
                ),
                topic=name,
            ) from error
        raise BrokerRefused(_("The broker refused: %(error)s"), error=told.str()) from error
    finally:
        topics.metadata.forget()
