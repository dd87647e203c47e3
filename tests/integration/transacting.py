"""A handler's sink of its own, its batches, its effects and its position, in either database."""

from confluent_kafka import Message
from django.contrib.auth.models import Group as Role

from tkcons.handlers import Handler
from tkcons.models import Position
from tkcons.sinks.base import Batch, Claim, Place
from tkcons.sinks.handler import HandlerSink

PLACE = Place("orders", "id-1", 0)


def sink_of(function, **options) -> HandlerSink:
    given = {
        "group": "g",
        "topics": ("orders",),
        "batch": None,
        "decode": Message.value,
        "tries": 2,
        "pauses": (0.0, 0.0),
        "dead_letter": None,
        "timeout": 60.0,
        "using": "postgres",
        "start": None,
        **options,
    }
    return HandlerSink("g", handler=Handler(function, **given))


def batch(claim: Claim, *offsets: int) -> Batch:
    messages = [Message(topic="orders", partition=0, offset=n, value=b"v%d" % n, timestamp=(1, 5)) for n in offsets]
    return Batch(PLACE, claim, messages, offsets[-1] + 1)


def begun(sink: HandlerSink) -> Claim:
    sink.begin({PLACE: 0})
    return sink.claim([PLACE])[PLACE]


def note(message, using: str = "postgres") -> None:
    Role.objects.using(using).create(name=message.value.decode())


def noted(using: str = "postgres") -> list[str]:
    return list(Role.objects.using(using).order_by("pk").values_list("name", flat=True))


def position(using: str = "postgres") -> int:
    return Position.objects.using(using).get().next_offset


class Clock:
    """Time that goes on when a handler says so."""

    def __init__(self) -> None:
        self.now = 1.0

    def monotonic(self) -> float:
        return self.now
