"""Positions and messages; groups and their members; tries, dead letters and remembered event ids."""

from django.conf import settings
from django.db import models
from django.utils.translation import gettext_lazy as _


class Position(models.Model):
    """Where a group stands in a partition: written in the transaction that stores the messages before it.

    The generation rises with each assignment, reset and seek; a write under an older one is refused.
    """

    group = models.CharField(_("group"), max_length=249)
    topic = models.CharField(_("topic"), max_length=249)
    topic_id = models.CharField(_("topic id"), max_length=22)  # Kafka's, URL-safe base64
    partition = models.PositiveIntegerField(_("partition"))
    generation = models.BigIntegerField(_("generation"), default=0)
    start_offset = models.BigIntegerField(_("start offset"))  # where the group began: the audit's lower bound
    next_offset = models.BigIntegerField(_("next offset"))
    updated_at = models.DateTimeField(_("updated"), auto_now=True)

    class Meta:
        verbose_name = _("position")
        verbose_name_plural = _("positions")
        constraints = [
            models.UniqueConstraint(fields=["group", "topic_id", "partition"], name="tkcons_position_unique")
        ]

    def __str__(self) -> str:
        return f"{self.group} {self.topic}[{self.partition}]@{self.next_offset}"


class Message(models.Model):
    """A stored message. Topic and partition are its position's: two small integers index ten million rows."""

    position = models.ForeignKey(
        Position, models.PROTECT, verbose_name=_("partition"), related_name="messages", db_index=False
    )
    offset = models.BigIntegerField(_("offset"))
    timestamp = models.BigIntegerField(_("timestamp"), null=True)  # ms; null: none
    timestamp_type = models.PositiveSmallIntegerField(_("timestamp type"), default=0)  # 0 CreateTime, 1 LogAppendTime
    key = models.BinaryField(_("key"), null=True)
    value = models.BinaryField(_("value"), null=True)
    headers = models.TextField(_("headers"), null=True)  # noqa: DJ001  NULL: none; else JSON, see tkcons.headers
    stored_at = models.DateTimeField(_("stored"))

    class Meta:
        verbose_name = _("message")
        verbose_name_plural = _("messages")
        permissions = [("view_payload", _("Can read messages")), ("export", _("Can export messages"))]
        constraints = [models.UniqueConstraint(fields=["position", "offset"], name="tkcons_message_unique")]

    def __str__(self) -> str:
        return f"{self.position_id}@{self.offset}"


class Group(models.Model):
    """A consumer group and the state that people want it in; every process that runs it obeys."""

    class State(models.TextChoices):
        RUNNING = "running", _("running")
        PAUSED = "paused", _("paused")
        STOPPED = "stopped", _("stopped")

    name = models.CharField(_("name"), max_length=249, primary_key=True)
    desired = models.CharField(_("desired state"), max_length=7, choices=State, default=State.STOPPED)
    changed_at = models.DateTimeField(_("changed"), auto_now=True)
    changed_by = models.CharField(_("changed by"), max_length=150, blank=True)
    # The one web process that runs the group while no `manage.py consume` does.
    lease_owner = models.CharField(max_length=100, blank=True)
    leased_until = models.DateTimeField(null=True)

    class Meta:
        verbose_name = _("group")
        verbose_name_plural = _("groups")
        permissions = [("control_consumer", _("Can start, stop and reset groups"))]

    def __str__(self) -> str:
        return self.name


class Member(models.Model):
    """A process that runs a group, as its last heartbeat told."""

    group = models.ForeignKey(Group, models.CASCADE, verbose_name=_("group"), related_name="members")
    name = models.CharField(_("name"), max_length=150, unique=True)  # host:pid:start
    host = models.CharField(_("host"), max_length=100)
    pid = models.PositiveIntegerField(_("process id"))
    in_web = models.BooleanField(_("in a web process"), default=False)
    state = models.CharField(_("state"), max_length=20)
    partitions = models.JSONField(_("partitions"), default=list)  # [{"topic", "partition", "position", "end", "lag"}]
    stored = models.BigIntegerField(_("stored"), default=0)  # records since it started
    error = models.TextField(_("last error"), blank=True)
    started_at = models.DateTimeField(_("started"))
    seen_at = models.DateTimeField(_("last heartbeat"))

    class Meta:
        verbose_name = _("member")
        verbose_name_plural = _("members")

    def __str__(self) -> str:
        return self.name


class SeenEvent(models.Model):
    """An event id that a group has stored, so that a relay's or a client's repeat is removed."""

    group = models.CharField(max_length=249)
    topic_id = models.CharField(max_length=22)
    event_id = models.UUIDField()
    seen_at = models.DateTimeField(db_index=True)

    class Meta:
        verbose_name = _("event id")
        verbose_name_plural = _("event ids")
        constraints = [
            models.UniqueConstraint(fields=["group", "topic_id", "event_id"], name="tkcons_seenevent_unique")
        ]

    def __str__(self) -> str:
        return str(self.event_id)


class Gap(models.Model):
    """Offsets below a position that are rightly not stored: the audit reads them."""

    class Cause(models.TextChoices):
        REPEATED = "repeated", _("removed as a repeat")
        PRUNED = "pruned", _("pruned")
        SKIPPED = "skipped", _("skipped by a reset or seek")
        DISCARDED = "discarded", _("discarded")

    position = models.ForeignKey(Position, models.CASCADE, verbose_name=_("partition"), related_name="gaps")
    cause = models.CharField(_("cause"), max_length=10, choices=Cause)
    first_offset = models.BigIntegerField(_("first offset"))
    last_offset = models.BigIntegerField(_("last offset"))  # inclusive
    made_by = models.CharField(_("made by"), max_length=150, blank=True)
    made_at = models.DateTimeField(_("made"), auto_now_add=True)

    class Meta:
        verbose_name = _("gap")
        verbose_name_plural = _("gaps")
        indexes = [models.Index(fields=["position", "first_offset"], name="tkcons_gap_offsets")]

    def __str__(self) -> str:
        return f"{self.position_id}@{self.first_offset}-{self.last_offset} {self.cause}"


class Try(models.Model):
    """Failures of a handler on one record, counted outside its transaction: they survive kill -9."""

    position = models.ForeignKey(Position, models.CASCADE, related_name="tries", db_index=False)
    offset = models.BigIntegerField()
    count = models.PositiveIntegerField(default=0)
    error = models.TextField(blank=True)
    next_at = models.DateTimeField(null=True)

    class Meta:
        verbose_name = _("try")
        verbose_name_plural = _("tries")
        constraints = [models.UniqueConstraint(fields=["position", "offset"], name="tkcons_try_unique")]

    def __str__(self) -> str:
        return f"{self.position_id}@{self.offset}: {self.count}"


class DeadLetter(models.Model):
    """A record that its handler could not take, listed once per group, topic id, partition and offset."""

    class State(models.TextChoices):
        DEAD = "dead", _("dead")
        RESENT = "resent", _("resent")
        DISCARDED = "discarded", _("discarded")

    event_id = models.UUIDField(_("event id"), unique=True)  # derived from group, topic id, partition and offset
    group = models.CharField(_("group"), max_length=249)
    topic = models.CharField(_("topic"), max_length=249)
    topic_id = models.CharField(_("topic id"), max_length=22)
    partition = models.PositiveIntegerField(_("partition"))
    offset = models.BigIntegerField(_("offset"))
    timestamp = models.BigIntegerField(_("timestamp"), null=True)  # ms
    key = models.BinaryField(_("key"), null=True)
    value = models.BinaryField(_("value"), null=True)
    headers = models.TextField(_("headers"), null=True)  # noqa: DJ001
    cause = models.CharField(_("cause"), max_length=500)
    traceback = models.TextField(_("traceback"), blank=True)
    tries = models.PositiveIntegerField(_("tries"))
    state = models.CharField(_("state"), max_length=9, choices=State, default=State.DEAD)
    died_at = models.DateTimeField(_("died"))
    handled_at = models.DateTimeField(_("resent or discarded"), null=True)
    handled_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, models.SET_NULL, null=True, verbose_name=_("by"), related_name="+"
    )
    handled_by_name = models.CharField(_("by (name)"), max_length=150, blank=True)
    resent_as = models.UUIDField(_("resent as"), null=True)

    class Meta:
        verbose_name = _("dead letter")
        verbose_name_plural = _("dead letters")
        indexes = [models.Index(fields=["state", "id"], name="tkcons_deadletter_state")]

    def __str__(self) -> str:
        return f"{self.group} {self.topic}[{self.partition}]@{self.offset}"
