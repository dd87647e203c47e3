"""Consumer groups: which there are, the state that people want them in, and the heartbeats of those who run them."""

import os
import socket
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from django.db import transaction
from django.db.models import Q, QuerySet
from django.utils import timezone
from django.utils.module_loading import import_string
from django.utils.translation import gettext_noop as _

from tk import trail
from tk.access import Caller, require
from tkcons.conf import settings
from tkcons.errors import UnknownGroup
from tkcons.handlers import Start, registry
from tkcons.models import Group, Member
from tkcons.samples import Sampler
from tkcons.sinks.base import Sink

CONTROL = "tkcons.control_consumer"
HANDLER_SINK = "tkcons.sinks.handler.HandlerSink"
BEATS = 5  # heartbeats that a member may miss before it counts as gone


@dataclass(frozen=True)
class Spec:
    """A group as the settings define it."""

    name: str
    topics: tuple[str, ...]
    sink_class: type[Sink]
    options: dict[str, Any] = field(default_factory=dict)
    start: Start | None = None  # at first contact; None: TKCONS["START"]

    def sink(self) -> Sink:
        """A new sink for one runner."""
        return self.sink_class(self.name, **self.options)


def specs() -> dict[str, Spec]:
    """The groups of this installation, by name: a sink's or a handler's each."""
    found = {}
    for name, given in settings.SINKS.items():
        options = dict(given)
        sink_class = import_string(options.pop("class"))
        topics = tuple(options.pop("topics"))
        group, start = options.pop("group", f"tkcons.{name}"), options.pop("start", None)
        found[group] = Spec(group, topics, sink_class, options, start)
    for group, made in registry.items():
        found[group] = Spec(group, made.topics, import_string(HANDLER_SINK), {"handler": made}, made.start)
    return found


def spec(name: str) -> Spec:
    """The group of this name. Raises UnknownGroup."""
    try:
        return specs()[name]
    except KeyError:
        known = ", ".join(specs()) or "none"
        raise UnknownGroup(_("There is no group %(group)r; there are: %(known)s."), group=name, known=known) from None


def want(state: Group.State, caller: Caller, names: Iterable[str] | None = None) -> list[str]:
    """Set the desired state of these groups (default: all); whoever runs them obeys within a heartbeat.

    Gives the names. Raises Unauthenticated, Forbidden or UnknownGroup.
    """
    require(caller, CONTROL)
    chosen = [spec(name).name for name in names] if names is not None else list(specs())
    with transaction.atomic(using=_using()):
        for name in chosen:
            group, _ = _groups().get_or_create(name=name, defaults={"changed_by": caller.name})
            if group.desired != state:
                group.desired, group.changed_by = state, caller.name
                group.save(update_fields=["desired", "changed_by", "changed_at"])
                trail.note(caller, name, f"wanted {state.value}", row=group)
    return chosen


def desired(name: str) -> Group.State:
    """The desired state; a group that nobody has steered yet is wanted running by the process that asks."""
    group, _ = _groups().get_or_create(name=name, defaults={"desired": Group.State.RUNNING, "changed_by": "consume"})
    return Group.State(group.desired)


def status() -> list[dict[str, Any]]:
    """Each group: name, topics, desired state and who set it, lag, and its live members with partitions and last error.

    The lag is None while no member tells it.
    """
    known = {group.name: group for group in _groups().all()}
    alive: dict[str, list[Member]] = {}
    for member in live_members().order_by("started_at"):
        alive.setdefault(member.group_id, []).append(member)
    return [
        {
            "group": name,
            "topics": list(found.topics),
            "desired": known[name].desired if name in known else Group.State.STOPPED.value,
            "changed_at": known[name].changed_at.isoformat() if name in known else None,
            "changed_by": known[name].changed_by if name in known else "",
            "members": [
                {
                    "name": member.name,
                    "in_web": member.in_web,
                    "state": member.state,
                    "stored": member.stored,
                    "partitions": member.partitions,
                    "error": member.error,
                    "started_at": member.started_at.isoformat(),
                    "seen_at": member.seen_at.isoformat(),
                }
                for member in alive.get(name, [])
            ],
            "lag": _lag(alive.get(name, [])),
        }
        for name, found in specs().items()
    ]


def _lag(members: list[Member]) -> int | None:
    known = [row["lag"] for member in members for row in member.partitions if row["lag"] is not None]
    return sum(known) if known else None


def live_members(*, in_web: bool | None = None) -> QuerySet[Member]:
    """Members whose last heartbeat is younger than BEATS intervals."""
    members = Member.objects.using(_using()).filter(seen_at__gt=timezone.now() - _patience())
    return members if in_web is None else members.filter(in_web=in_web)


class Heartbeat:
    """One runner's row in Member: `beat` writes it and gives the group's desired state."""

    def __init__(self, group: str, *, in_web: bool) -> None:
        self.group = group
        self.in_web = in_web
        self.host = socket.gethostname()[:100]
        self.name = f"{self.host}:{os.getpid()}:{time.time_ns():x}:{group}"[:150]
        self._started = timezone.now()
        self._sampler = Sampler(group, self.name)

    def beat(self, state: str, partitions: list[dict[str, Any]], stored: int, error: str) -> Group.State:
        """Tell how the runner is; partitions: [{"topic", "partition", "position", "end", "lag"}]."""
        wanted = desired(self.group)
        now = timezone.now()
        members = Member.objects.using(_using())
        members.update_or_create(
            name=self.name,
            defaults={
                "group_id": self.group,
                "host": self.host,
                "pid": os.getpid(),
                "in_web": self.in_web,
                "state": state,
                "partitions": partitions,
                "stored": stored,
                "error": error[:2000],
                "started_at": self._started,
                "seen_at": now,
            },
        )
        members.filter(group_id=self.group, seen_at__lt=now - 60 * _patience()).delete()
        self._sampler.take(partitions, stored)
        return wanted

    def end(self) -> None:
        """Take the row away: this runner has stopped."""
        Member.objects.using(_using()).filter(name=self.name).delete()


def lease(name: str, owner: str) -> bool:
    """Take or renew the lease under which one web process runs the group; False: another process runs it.

    While a `manage.py consume` of the group has a heartbeat, no web process gets the lease.
    """
    if live_members(in_web=False).filter(group_id=name).exists():
        release(name, owner)
        return False
    now = timezone.now()
    free = Q(lease_owner=owner) | Q(leased_until=None) | Q(leased_until__lt=now)
    taken = _groups().filter(free, name=name).update(lease_owner=owner, leased_until=now + _patience())
    return bool(taken)


def release(name: str, owner: str) -> None:
    """Give the lease back, if this owner has it."""
    _groups().filter(name=name, lease_owner=owner).update(lease_owner="", leased_until=None)


def _patience() -> timedelta:
    return timedelta(seconds=BEATS * settings.HEARTBEAT_SECONDS)


def _using() -> str:
    from django.db import router

    return router.db_for_write(Group)


def _groups() -> QuerySet[Group]:
    return Group.objects.using(_using())
