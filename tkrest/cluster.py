"""What the cluster is made of: topics, partitions, offsets, brokers."""

import os
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from typing import Any, TypeVar

from confluent_kafka import KafkaError, KafkaException, TopicCollection, TopicPartition
from confluent_kafka.admin import AdminClient, ConfigResource, OffsetSpec
from django.core.signals import setting_changed

from tk import topics
from tk.access import Caller, require
from tk.client import client_config
from tk.errors import Forbidden, NotSent, UnknownTopic
from tk.record import check_topic
from tkcons.reader import VIEW
from tkrest.errors import PartitionNotFound

T = TypeVar("T")
PRODUCE = "tk.produce"
_UNKNOWN = {KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError.UNKNOWN_TOPIC_ID, KafkaError.TOPIC_EXCEPTION}

_admin: tuple[int, AdminClient] | None = None


def require_seen(caller: Caller, topic: str | None = None) -> None:
    """Raise unless the caller may produce to the topic or read it."""
    require(caller, PRODUCE if caller.may(PRODUCE) else VIEW, topic)


def names(caller: Caller) -> list[str]:
    """The topics that the caller may produce to or read, sorted."""
    return _names(partial(require_seen, caller))


def readable(caller: Caller) -> list[str]:
    """The topics that the caller may read, sorted."""
    return _names(partial(require, caller, VIEW))


def _names(check: Callable[..., None]) -> list[str]:
    check()
    found = _ask(lambda admin: admin.list_topics(timeout=topics.ASK_SECONDS).topics)
    return sorted(name for name in found if _passes(check, name))


def _passes(check: Callable[..., None], name: str) -> bool:
    try:
        check(name)
    except Forbidden:
        return False
    return True


def topic(caller: Caller, name: str) -> dict[str, Any]:
    """A topic: name, configs, partitions. Raises UnknownTopic."""
    found = partitions(caller, name)
    resource = ConfigResource(ConfigResource.Type.TOPIC, name)
    configs = _answer(lambda admin: admin.describe_configs([resource], request_timeout=topics.ASK_SECONDS)[resource])
    return {
        "name": name,
        "configs": {entry.name: entry.value for entry in configs.values() if not entry.is_sensitive},
        "partitions": found,
    }


def partitions(caller: Caller, name: str) -> list[dict[str, Any]]:
    """The topic's partitions: number, leader, replicas. Raises UnknownTopic."""
    check_topic(name)
    require_seen(caller, name)
    asked = TopicCollection([name])
    seen = _answer(lambda admin: admin.describe_topics(asked, request_timeout=topics.ASK_SECONDS)[name], name)
    return [_partition(each) for each in seen.partitions]


def partition(caller: Caller, name: str, number: int) -> dict[str, Any]:
    """One partition. Raises UnknownTopic or PartitionNotFound."""
    for each in partitions(caller, name):
        if each["partition"] == number:
            return each
    raise PartitionNotFound


def _partition(seen: Any) -> dict[str, Any]:
    leader = seen.leader.id if seen.leader is not None else None
    in_sync = {node.id for node in seen.isr}
    return {
        "partition": seen.id,
        "leader": leader,
        "replicas": [
            {"broker": node.id, "leader": node.id == leader, "in_sync": node.id in in_sync} for node in seen.replicas
        ],
    }


def offsets(caller: Caller, name: str, number: int) -> dict[str, int]:
    """The partition's first offset and the one after its last. Raises UnknownTopic or PartitionNotFound."""
    partition(caller, name, number)
    return {
        "beginning_offset": _offset(name, number, OffsetSpec.earliest()),
        "end_offset": _offset(name, number, OffsetSpec.latest()),
    }


def _offset(name: str, number: int, where: OffsetSpec) -> int:
    asked = TopicPartition(name, number)
    seen = _answer(lambda admin: admin.list_offsets({asked: where}, request_timeout=topics.ASK_SECONDS)[asked], name)
    return int(seen.offset)


def brokers(caller: Caller) -> list[int]:
    """The brokers' ids, sorted."""
    require_seen(caller)
    seen = _answer(lambda admin: admin.describe_cluster(request_timeout=topics.ASK_SECONDS))
    return sorted(node.id for node in seen.nodes)


def _answer(question: Callable[[AdminClient], "Future[Any]"], name: str = "") -> Any:
    return _ask(lambda admin: question(admin).result(), name)


def _ask(question: Callable[[AdminClient], T], name: str = "") -> T:
    """The cluster's answer. Raises UnknownTopic of `name`, or NotSent when no broker answers."""
    global _admin
    if _admin is None or _admin[0] != os.getpid():  # a client from before a fork is dead
        _admin = os.getpid(), AdminClient(client_config())
    try:
        return question(_admin[1])
    except KafkaException as error:
        if name and error.args[0].code() in _UNKNOWN:
            raise UnknownTopic(f"The broker has no topic {name!r}.") from error
        raise NotSent(f"Kafka does not answer ({error.args[0].str()}): try again.") from error


def _on_setting(setting: str, **kwargs: object) -> None:
    global _admin
    if setting in {"KAFKA_BROKER_URL", "KAFKA_CLIENT"}:
        _admin = None


setting_changed.connect(_on_setting, dispatch_uid="tkrest.cluster")
