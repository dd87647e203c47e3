"""Positions and messages; groups and their members; dead letters."""

from django.db import models
from django.utils.translation import gettext_lazy as _


class Position(models.Model):
    """Where a group stands in a partition: written in the transaction that stores the messages before it.

    The generation rises with each assignment, reset and seek; a write under an older one is refused.
    """

    group = models.CharField(_("group"), max_length=249)
    topic = models.CharField(_("topic"), max_length=249)
    topic_id = models.CharField(_("topic id"), max_length=22)  # Kafka's, in base64 without padding
    partition = models.PositiveIntegerField(_("partition"))
    generation = models.BigIntegerField(_("generation"), default=0)
    start_offset = models.BigIntegerField(_("start offset"))  # where the group began: the audit's lower bound
    next_offset = models.BigIntegerField(_("next offset"))
    updated_at = models.DateTimeField(_("updated"), auto_now=True)
    # Of a handler's group: it stores nothing, so the audit has nothing to compare.
    stores = models.BooleanField(_("stores messages"), default=True)
    # Committed before a handler is called, so that a message which kills its process is known: the end of the range that
    # is being tried from next_offset on (null: none), and how often that was begun, if it is a single message.
    trying_until = models.BigIntegerField(_("trying until"), null=True)
    tries = models.PositiveIntegerField(_("tries"), default=0)
    # The process that made the last claim, host:pid, and from where on it alone writes; before: tkcons.owners.
    claimed_by = models.CharField(_("claimed by"), max_length=100, default="", db_default="", blank=True)
    claimed_from = models.BigIntegerField(_("claimed from"), null=True)

    class Meta:
        verbose_name = _("position")
        verbose_name_plural = _("positions")
        constraints = [
            models.UniqueConstraint(fields=["group", "topic_id", "partition"], name="tkcons_position_unique")
        ]

    def __str__(self) -> str:
        return f"{self.group} {self.topic}[{self.partition}]@{self.next_offset}"


class Owner(models.Model):
    """A process that wrote a position before the present one: from this offset on, until the next owner's."""

    position = models.ForeignKey(
        Position, models.CASCADE, verbose_name=_("partition"), related_name="owners", db_index=False
    )
    first_offset = models.BigIntegerField(_("first offset"))
    process = models.CharField(_("process"), max_length=100)  # host:pid

    class Meta:
        verbose_name = _("owner")
        verbose_name_plural = _("owners")
        constraints = [models.UniqueConstraint(fields=["position", "first_offset"], name="tkcons_owner_unique")]

    def __str__(self) -> str:
        return f"{self.position_id}@{self.first_offset} {self.process}"


class Message(models.Model):
    """A stored message. Topic and partition are its position's: two small integers index ten million rows."""

    # No constraint in the database: PostgreSQL would look the position up for each row, at half the speed of storing.
    # The row is written in the transaction that updates its position, and Django deletes no position that has messages.
    position = models.ForeignKey(
        Position,
        models.PROTECT,
        verbose_name=_("partition"),
        related_name="messages",
        db_index=False,
        db_constraint=False,
    )
    offset = models.BigIntegerField(_("offset"))
    timestamp = models.BigIntegerField(_("timestamp"), null=True)  # ms; null: none
    timestamp_type = models.PositiveSmallIntegerField(_("timestamp type"), default=0)  # 0 CreateTime, 1 LogAppendTime
    key = models.BinaryField(_("key"), null=True)
    value = models.BinaryField(_("value"), null=True)
    headers = models.TextField(_("headers"), null=True)  # noqa: DJ001  NULL: none; else JSON, see tk.record
    stored_at = models.DateTimeField(_("stored"))

    class Meta:
        verbose_name = _("message")
        verbose_name_plural = _("messages")
        permissions = [("view_payload", _("Can read messages")), ("export", _("Can export messages"))]
        constraints = [models.UniqueConstraint(fields=["position", "offset"], name="tkcons_message_unique")]

    def __str__(self) -> str:
        return f"{self.position.topic}[{self.position.partition}]@{self.offset}"


class SeenEvent(models.Model):
    """An event of the outbox that a group has stored: its repeat is not stored again. Kept for EVENT_DAYS."""

    group = models.CharField(_("group"), max_length=249)
    topic_id = models.CharField(_("topic id"), max_length=22)
    event_id = models.CharField(_("event id"), max_length=100)
    # Where it was stored: a group that is put back before it forgets it.
    partition = models.PositiveIntegerField(_("partition"), default=0)
    offset = models.BigIntegerField(_("offset"), default=0)
    seen_at = models.DateTimeField(_("seen"))

    class Meta:
        verbose_name = _("seen event")
        verbose_name_plural = _("seen events")
        constraints = [models.UniqueConstraint(fields=["group", "topic_id", "event_id"], name="tkcons_event_unique")]
        indexes = [models.Index(fields=["group", "seen_at"], name="tkcons_event_seen")]  # forgetting

    def __str__(self) -> str:
        return f"{self.group} {self.event_id}"


class Gap(models.Model):
    """Offsets before the position that are not stored, and why: the audit counts them as accounted for."""

    class Reason(models.TextChoices):
        REPEAT = "repeat", _("repeat of an event")
        SKIPPED = "skipped", _("skipped by a seek")
        PRUNED = "pruned", _("pruned")

    position = models.ForeignKey(Position, models.CASCADE, verbose_name=_("partition"), related_name="gaps")
    first_offset = models.BigIntegerField(_("first offset"))
    end_offset = models.BigIntegerField(_("end offset"))  # exclusive
    reason = models.CharField(_("reason"), max_length=10, choices=Reason)
    made_at = models.DateTimeField(_("made"), auto_now_add=True)

    class Meta:
        verbose_name = _("gap")
        verbose_name_plural = _("gaps")

    def __str__(self) -> str:
        return f"{self.position_id}@{self.first_offset}-{self.end_offset} {self.reason}"


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
    lease_owner = models.CharField(_("lease's owner"), max_length=100, blank=True)
    leased_until = models.DateTimeField(_("leased until"), null=True)

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


class Sample(models.Model):
    """A member's lag, and what it stored, in one slot of time; see tkcons.samples."""

    group = models.CharField(_("group"), max_length=249)
    member = models.CharField(_("member"), max_length=150)
    slot = models.BigIntegerField(_("slot"))  # Unix time in units of SAMPLE_SECONDS
    lag = models.BigIntegerField(_("lag"))
    stored = models.BigIntegerField(_("stored"))  # since the member's last sample

    class Meta:
        verbose_name = _("sample")
        verbose_name_plural = _("samples")
        indexes = [models.Index(fields=["group", "slot"], name="tkcons_sample_slot")]

    def __str__(self) -> str:
        return f"{self.group} {self.slot}"


class DeadLetter(models.Model):
    """A message that a group's handler could not handle."""

    class State(models.TextChoices):
        WAITING = "waiting", _("waiting")
        REQUESTED = "requested", _("to be handled again")
        RESENT = "resent", _("handled after all")
        DISCARDED = "discarded", _("discarded")

    # Derived from group, topic id, partition and offset: a letter made twice, around a crash, is listed once.
    id = models.CharField(_("id"), max_length=32, primary_key=True)
    group = models.CharField(_("group"), max_length=249)
    topic = models.CharField(_("topic"), max_length=249)
    topic_id = models.CharField(_("topic id"), max_length=22)
    partition = models.PositiveIntegerField(_("partition"))
    offset = models.BigIntegerField(_("offset"))
    timestamp = models.BigIntegerField(_("timestamp"), null=True)  # ms; null: none
    key = models.BinaryField(_("key"), null=True)
    value = models.BinaryField(_("value"), null=True)
    headers = models.TextField(_("headers"), null=True)  # noqa: DJ001  NULL: none; else JSON, see tk.record
    cause = models.TextField(_("cause"))
    traceback = models.TextField(_("traceback"), blank=True)
    tries = models.PositiveIntegerField(_("tries"))
    dead_topic = models.CharField(_("dead letter topic"), max_length=249, blank=True)
    dead_partition = models.PositiveIntegerField(_("dead letter partition"), null=True)
    dead_offset = models.BigIntegerField(_("dead letter offset"), null=True)
    state = models.CharField(_("state"), max_length=10, choices=State, default=State.WAITING)
    attempt = models.PositiveIntegerField(
        default=0
    )  # rises each time it is handled again: an older one cannot settle it
    made_at = models.DateTimeField(_("made"))
    changed_at = models.DateTimeField(_("changed"))
    changed_by = models.CharField(_("changed by"), max_length=150, blank=True)

    class Meta:
        verbose_name = _("dead letter")
        verbose_name_plural = _("dead letters")
        permissions = [("settle_deadletter", _("Can resend and discard dead letters"))]
        indexes = [
            models.Index(fields=["group", "state", "made_at"], name="tkcons_letter_waiting"),
            models.Index(fields=["state", "made_at"], name="tkcons_letter_state"),
            models.Index(fields=["made_at"], name="tkcons_letter_made"),
        ]

    def __str__(self) -> str:
        return f"{self.group} {self.topic}[{self.partition}]@{self.offset}"
