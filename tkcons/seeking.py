"""Moving a stopped group to other offsets: earliest, latest, a number, or a time."""

import contextlib
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime

from confluent_kafka import Consumer, KafkaException, TopicPartition
from django.utils.translation import gettext_noop as _

from tk import topics, trail
from tk.access import Caller, require
from tk.client import client_config
from tk.errors import NotSent
from tkcons import groups
from tkcons.beginning import tell
from tkcons.errors import CannotSeek, GroupRunning, SinkUnavailable
from tkcons.models import Group
from tkcons.sinks.base import Claim, Place, Sink

logger = logging.getLogger(__name__)

ANSWER_SECONDS = 10.0
Target = str | int | datetime


@contextmanager
def stopped(name: str, caller: Caller) -> Iterator[tuple[groups.Spec, Sink, Consumer]]:
    """The group's opened sink, and a consumer to ask the cluster with, while no process runs the group.

    Raises Unauthenticated, Forbidden, UnknownGroup, GroupRunning, SinkUnavailable, SinkLocked, or NotSent when Kafka does
    not answer.
    """
    require(caller, groups.CONTROL)
    spec = groups.spec(name)
    if groups.live_members().filter(group_id=name).exclude(state="stopped").exists():
        raise GroupRunning(_("%(group)s is running: stop it first (manage.py group stop %(group)s)."), group=name)
    sink = spec.sink()
    sink.open()
    consumer = Consumer(client_config({"group.id": name, "enable.auto.commit": False}))
    try:
        yield spec, sink, consumer
    except KafkaException as error:
        raise NotSent(_("Kafka does not answer (%(error)s): try again."), error=error.args[0].str()) from error
    finally:
        consumer.close()
        sink.close()


def move(
    name: str, target: Target, caller: Caller, *, topic: str | None = None, partition: int | None = None
) -> dict[Place, tuple[int, int]]:
    """Put the group (one topic, one partition of it) to "earliest", "latest", an offset, or a time (aware datetime).

    Gives old and new position by place. Going back, the database sink takes out what it has stored from there on, and a
    handler is called again; files cannot go back. Going on, what lies between is noted as skipped. Everything is checked
    before the first position moves. Raises what `stopped` raises, UnknownTopic, NotSent, and CannotSeek.
    """
    with stopped(name, caller) as (spec, sink, consumer):
        if topic is not None and topic not in spec.topics:
            raise CannotSeek(
                _("%(group)s does not read %(topic)r: it reads %(topics)s."),
                group=name,
                topic=topic,
                topics=", ".join(spec.topics),
            )
        moves: list[tuple[Place, Claim, int]] = []
        for each in [topic] if topic is not None else spec.topics:
            seen = topics.get(each, 0)
            if partition is not None and partition >= seen.partitions:
                raise CannotSeek(_("%(topic)r has the partitions 0 to %(last)d."), topic=each, last=seen.partitions - 1)
            numbers = range(seen.partitions) if partition is None else [partition]
            offsets = {Place(each, seen.id, number): _resolve(consumer, each, number, target) for number in numbers}
            sink.begin(offsets)  # where the group has no position yet, it begins there
            moves += [(place, claim, offsets[place]) for place, claim in sink.claim(offsets).items()]
        for place, claim, offset in moves:
            sink.seek(place, claim, offset)
        with contextlib.suppress(KafkaException, SinkUnavailable):  # the group's members tell it too
            begun = sink.begun(place for place, _, _ in moves)
            committed = [tell(place, offset, begun.get(place)) for place, _, offset in moves]
            consumer.commit(offsets=committed, asynchronous=False)
    moved = {place: (claim.next_offset, offset) for place, claim, offset in moves}
    told = ", ".join(f"{place.topic}[{place.partition}] {old} to {new}" for place, (old, new) in moved.items())
    trail.note(caller, name, f"moved: {told}", row=Group(name=name))
    for place, (old, new) in moved.items():
        logger.warning(
            "position moved",
            extra={
                "action": "seek",
                "group": name,
                "topic": place.topic,
                "partition": place.partition,
                "offset": new,
                "from": old,
                "by": caller.name,
            },
        )
    return moved


def _resolve(consumer: Consumer, topic: str, partition: int, target: Target) -> int:
    where = TopicPartition(topic, partition)
    low, high = consumer.get_watermark_offsets(where, timeout=ANSWER_SECONDS)
    if target == "earliest":
        return int(low)
    if target == "latest":
        return int(high)
    if isinstance(target, datetime):
        return at_time(consumer, topic, partition, target, high)
    if not isinstance(target, int):
        raise CannotSeek(f"{target!r} is neither earliest, latest, an offset nor a time.")
    if not low <= target <= high:
        raise CannotSeek(
            _("%(topic)s[%(partition)d] has the offsets %(low)d to %(high)d, not %(offset)d."),
            topic=topic,
            partition=partition,
            low=low,
            high=high,
            offset=target,
        )
    return target


def at_time(
    consumer: Consumer, topic: str, partition: int, time: datetime, end: int, seconds: float = ANSWER_SECONDS
) -> int:
    """The first offset whose message is of this time or later; `end` where there is none.

    seconds: for Kafka's answer. Raises KafkaException.
    """
    ms = max(0, int(time.timestamp() * 1000))  # Kafka has none before 1970, and takes negative ones for other questions
    asked = TopicPartition(topic, partition, ms)
    (answer,) = consumer.offsets_for_times([asked], timeout=seconds)
    if answer.error is not None:  # not the same as none: the end might pass messages over
        raise KafkaException(answer.error)
    return int(answer.offset) if answer.offset >= 0 else end
