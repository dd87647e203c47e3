"""What the outbox's tests share."""

import threading
from collections.abc import Sequence

from confluent_kafka import Message

from tk.models import OutboxEvent
from tk.relay import Relay

State = OutboxEvent.State


def states(alias: str) -> list[int]:
    """Of all events, in their order."""
    return list(OutboxEvent.objects.using(alias).order_by("pk").values_list("state", flat=True))


def values(messages: Sequence[Message]) -> list[str]:
    return [(message.value() or b"").decode() for message in messages]


def running(alias: str) -> tuple[Relay, threading.Thread]:
    """A relay on a thread of its own; the test stops it."""
    made = Relay(alias)
    thread = threading.Thread(target=made.run, daemon=True)
    thread.start()
    return made, thread
