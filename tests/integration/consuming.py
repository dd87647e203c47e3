"""A runner on a thread of its own, and what its group has stored."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from tkcons.groups import Heartbeat, Spec
from tkcons.models import Member, Message
from tkcons.runner import Runner
from tkcons.sinks import DatabaseSink

QUICK = {"HEARTBEAT_SECONDS": 0.2, "RETRY_SECONDS": (0.1, 0.5), "STOP_SECONDS": 10.0}


def database(group: str, *topics: str) -> Spec:
    return Spec(group, topics, DatabaseSink)


@contextmanager
def running(spec: Spec, static_id: str = "") -> Iterator[Runner]:
    """A runner on a thread of its own, stopped at the end, its thread seen to end."""
    runner = Runner(spec, Heartbeat(spec.name, in_web=False), static_id=static_id)
    thread = threading.Thread(target=runner.run)
    thread.start()
    try:
        yield runner
    finally:
        runner.stop()
        thread.join(30)
        assert not thread.is_alive()


def values(group: str) -> list[str]:
    """Everything the group has stored, in the order of storing."""
    rows = Message.objects.filter(position__group=group).order_by("pk")
    return [bytes(row.value).decode() for row in rows]


def numbers(count: int, first: int = 0) -> list[str]:
    return [str(number) for number in range(first, first + count)]


def by_member(group: str) -> list[list[dict]]:
    """The partitions that each member of the group tells of, the oldest member first."""
    return [member.partitions for member in Member.objects.filter(group=group).order_by("started_at")]


def held(group: str) -> list[dict]:
    return [row for rows in by_member(group) for row in rows]


def states(group: str) -> list[str]:
    return [member.state for member in Member.objects.filter(group=group)]
