"""What the addresses under /consumers do, for a caller: permissions and input are checked here, then an instance works."""

import time
from collections.abc import Iterable
from fnmatch import fnmatchcase
from typing import Any

from confluent_kafka import TopicPartition

from tk import topics
from tk.access import Caller, require
from tk.errors import Forbidden
from tk.record import check_topic
from tkcons import groups
from tkcons.reader import VIEW
from tkrest import bodies, cluster, instances
from tkrest.checks import OFFSET_RESETS
from tkrest.client import Options
from tkrest.conf import settings
from tkrest.consume import Instance
from tkrest.errors import IllegalState, InvalidConsumer, PartitionNotFound, Unprocessable
from tkrest.fetched import Name
from tkrest.media import BINARY, FORMATS

LOOK_SECONDS = 30.0  # between looks for new topics that a pattern names
MAX_MIN_BYTES = 10_000_000
MAX_NAME = 255  # characters of a group's and an instance's name
MAX_PATTERN = 1_000  # characters


def create(caller: Caller, group: str, given: bodies.Consumer) -> Instance:
    """A new instance in the group. Raises InvalidConsumer, InstanceExists, TooManyInstances or Forbidden."""
    require(caller, VIEW)
    name = given.name or given.id
    for text in (group, name):
        if text is not None and not (0 < len(text) <= MAX_NAME and text.isprintable() and "/" not in text):
            raise InvalidConsumer(f"A name has 1 to {MAX_NAME} printable characters and no slash.")
    if group in groups.specs() or not any(fnmatchcase(group, pattern) for pattern in settings.GROUPS):
        raise Forbidden(f"The group {group!r} is not among those that requests may join: see TKREST['GROUPS'].")
    topics.ping()
    return instances.current.create(caller, group, name, _options(given))


def _options(given: bodies.Consumer) -> Options:
    embedded = (given.format or BINARY).lower()
    if embedded not in FORMATS:
        raise InvalidConsumer(f"The format is one of {', '.join(FORMATS)}; formats with schemas are not given here.")
    reset = (given.auto_offset_reset or settings.AUTO_OFFSET_RESET).lower()
    if reset not in OFFSET_RESETS:
        raise InvalidConsumer(f"auto.offset.reset is one of {', '.join(OFFSET_RESETS)}.")
    least = 1 if given.fetch_min_bytes is None else given.fetch_min_bytes
    if not -1 <= least <= MAX_MIN_BYTES:
        raise InvalidConsumer(f"fetch.min.bytes is from -1 to {MAX_MIN_BYTES}.")
    timeout = given.request_timeout_ms
    if timeout is not None and not 0 < timeout < 2**31:
        raise InvalidConsumer("consumer.request.timeout.ms is a positive number of milliseconds.")
    return Options(embedded, reset, given.auto_commit_enable is not False, least, timeout)


def find(caller: Caller, group: str, name: str) -> Instance:
    """The caller's instance, whose topics it may still read. Raises InstanceNotFound or Forbidden."""
    require(caller, VIEW)
    found = instances.current.get(caller, group, name)
    for topic in {*found.topics, *(topic for topic, _ in found.assignment())}:
        require(caller, VIEW, topic)
    return found


def delete(caller: Caller, group: str, name: str) -> None:
    """Close the caller's instance. Raises InstanceNotFound."""
    require(caller, VIEW)
    instances.current.delete(caller, group, name)


def subscribe(caller: Caller, found: Instance, given: bodies.Topics) -> None:
    """Subscribe to topics by name, or to those whose whole name a pattern matches (RE2)."""
    if (given.topics is None) == (given.topic_pattern is None):
        raise IllegalState("Give either topics or topic_pattern.")
    if given.topic_pattern is not None:
        wanted = matching(caller, given.topic_pattern)
    else:
        wanted = sorted(set(given.topics or ()))
        for name in wanted:
            _known(caller, name)
    with found.turn():
        found.subscribe(wanted, given.topic_pattern)


def matching(caller: Caller, pattern: str) -> list[str]:
    """The topics that the caller may read and the pattern matches. Raises Unprocessable for what is no pattern."""
    try:
        import re2
    except ImportError as error:
        raise Unprocessable("topic_pattern needs the package google-re2: pip install tutorialkafka[rest].") from error
    options = re2.Options()
    options.log_errors = False
    if len(pattern) > MAX_PATTERN:
        raise Unprocessable(f"A topic_pattern has at most {MAX_PATTERN} characters.")
    try:
        # RE2 needs time in proportion to the name's length, whatever a stranger's pattern is.
        matches = re2.compile(pattern, options).fullmatch
    except (re2.error, UnicodeError) as error:
        raise Unprocessable(f"The topic_pattern is no regular expression of RE2: {error}") from error
    return [name for name in cluster.readable(caller) if matches(name)]


def assign(caller: Caller, found: Instance, given: bodies.Partitions) -> None:
    """Assign partitions by hand. Raises UnknownTopic, PartitionNotFound or IllegalState."""
    wanted = _partitions(caller, given.partitions)
    with found.turn():
        found.assign(wanted)


def commit(caller: Caller, found: Instance, given: bodies.Offsets | None, *, wait: bool) -> list[Any]:
    """Commit: after the given offsets, as the REST Proxy has it; without a body, all that was given to the client."""
    offsets = None
    if given is not None:
        _partitions(caller, given.offsets)
        offsets = [
            TopicPartition(each.topic, each.partition, _offset(each.offset) + 1, each.metadata or "")
            for each in given.offsets
        ]
    with found.turn():
        found.commit(offsets, wait=wait)
    return []


def committed(caller: Caller, found: Instance, given: bodies.Partitions | None) -> dict[str, Any]:
    """The group's committed offsets."""
    if given is None:
        raise PartitionNotFound("Name the partitions in the request's body.")
    names = _partitions(caller, given.partitions)
    with found.turn():
        rows = found.committed(names)
    return {
        "offsets": [
            {"topic": row.topic, "partition": row.partition, "offset": row.offset, "metadata": row.metadata or ""}
            for row in rows
        ]
    }


def seek(caller: Caller, found: Instance, given: bodies.Offsets) -> None:
    """Read on from these offsets."""
    _partitions(caller, given.offsets)
    with found.turn():
        found.seek({(each.topic, each.partition): _offset(each.offset) for each in given.offsets})


def seek_end(caller: Caller, found: Instance, given: bodies.Partitions, *, beginning: bool) -> None:
    """Read on from the beginning or the end of these partitions."""
    names = _partitions(caller, given.partitions)
    with found.turn():
        found.seek({name: found.watermarks(name)[0 if beginning else 1] for name in names})


def read(caller: Caller, found: Instance, timeout_ms: int | None, max_bytes: int | None) -> list[dict[str, Any]]:
    """Records for one answer; see Instance.read. The times and sizes are bounded by the settings."""
    bounds = [each for each in (timeout_ms, found.options.request_timeout_ms) if each is not None]
    ms = min([*(bounds or [settings.READ_MS]), settings.MAX_READ_MS])
    most: int = settings.MAX_RESPONSE_BYTES
    with found.turn():
        if found.pattern is not None and time.monotonic() - found.looked_at > LOOK_SECONDS:
            found.subscribe(matching(caller, found.pattern), found.pattern)
        return found.read(ms / 1_000, most if max_bytes is None else min(max_bytes, most))


def _partitions(caller: Caller, given: Iterable[bodies.Partition | bodies.Offset]) -> list[Name]:
    """The partitions, each once. Raises Forbidden, UnknownTopic or PartitionNotFound."""
    names = sorted({(each.topic, each.partition) for each in given})
    counts = {topic: _known(caller, topic) for topic in {topic for topic, _ in names}}
    for topic, partition in names:
        if not 0 <= partition < counts[topic]:
            raise PartitionNotFound(f"Partition {partition} of {topic!r} not found.")
    return names


def _known(caller: Caller, topic: str) -> int:
    """The number of the topic's partitions. Raises InvalidTopic, Forbidden or UnknownTopic."""
    check_topic(topic)
    require(caller, VIEW, topic)
    return topics.get(topic).partitions


def _offset(given: int) -> int:
    if not 0 <= given < 2**63 - 1:
        raise Unprocessable("An offset is not negative.")
    return given
