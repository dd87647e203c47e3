"""librdkafka's options of a group's consumer: what promises rest on, what the group protocol wants, what may be changed."""

from tkcons.conf import settings

# librdkafka refuses them with the consumer protocol (KIP-848): there session and assignor are the broker's.
CLASSIC_ONLY = ("session.timeout.ms", "heartbeat.interval.ms", "partition.assignment.strategy", "group.protocol.type")

# What promises rest on.
FIXED: dict[str, object] = {
    "enable.auto.commit": False,
    "enable.auto.offset.store": False,
    # A position that Kafka no longer has stops the partition; it never jumps.
    "auto.offset.reset": "error",
    "isolation.level": "read_committed",
}


def protocol() -> dict[str, object]:
    """librdkafka's options of the group protocol that the settings choose."""
    if settings.PROTOCOL == "consumer":
        return {"group.protocol": "consumer"}
    return {"partition.assignment.strategy": "cooperative-sticky"}


def defaults() -> dict[str, object]:
    """What KAFKA_CLIENT may change."""
    shared: dict[str, object] = {
        # librdkafka fetches nothing for this long (ms) once its queue is full; its default, 1,000, starves a fast sink.
        "fetch.queue.backoff.ms": 10,
        "queued.min.messages": 100_000,
        "queued.max.messages.kbytes": 65_536,
        "topic.metadata.refresh.interval.ms": 10_000,  # new partitions are seen within it
    }
    if settings.PROTOCOL == "consumer":
        return shared
    return {**shared, "session.timeout.ms": 10_000, "heartbeat.interval.ms": 1_000}


def member(group: str, static_id: str) -> dict[str, object]:
    """What KAFKA_CLIENT may not change, for a member of this group. static_id: its name in static membership, or none."""
    named = {"group.instance.id": static_id} if static_id else {}
    return {**FIXED, **protocol(), "group.id": group, **named}
