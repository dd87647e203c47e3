"""API tokens, requests that may be repeated, and the outbox."""

import uuid

from django.conf import settings
from django.db import models
from django.db.models.functions import Now
from django.utils.translation import gettext_lazy as _


class Token(models.Model):
    """An API token; only its SHA-256 is kept. It acts with its own scopes, at most those of its user."""

    name = models.CharField(_("name"), max_length=100)
    digest = models.CharField(max_length=64, unique=True, editable=False)
    user = models.ForeignKey(
        settings.AUTH_USER_MODEL, models.SET_NULL, null=True, blank=True, verbose_name=_("user"), related_name="+"
    )
    user_name = models.CharField(_("user's name"), max_length=150, blank=True, editable=False)
    scopes = models.JSONField(_("scopes"), default=list, help_text=_("Permissions such as tk.produce."))
    topics = models.JSONField(
        _("topics"), default=list, blank=True, help_text=_("Patterns; empty: as the settings say.")
    )
    created_at = models.DateTimeField(_("created"), auto_now_add=True)
    expires_at = models.DateTimeField(_("expires"), null=True, blank=True)
    revoked_at = models.DateTimeField(_("revoked"), null=True, blank=True)

    class Meta:
        verbose_name = _("token")
        verbose_name_plural = _("tokens")
        permissions = [
            ("produce", _("Can produce messages")),
            ("manage_topics", _("Can create and delete topics")),
        ]

    def __str__(self) -> str:
        return self.name


class IdempotentRequest(models.Model):
    """A request with an Idempotency-Key: committed before its message is sent, and answered from when it is repeated."""

    caller = models.CharField(_("caller"), max_length=200)
    method = models.CharField(_("method"), max_length=8)
    path = models.CharField(_("path"), max_length=500)
    key = models.CharField(_("key"), max_length=255)
    fingerprint = models.CharField(_("fingerprint"), max_length=64)  # SHA-256 of what is sent
    event_id = models.UUIDField(_("event id"))
    attempt = models.PositiveIntegerField(_("attempt"), default=1)
    locked_until = models.DateTimeField(_("in flight until"), null=True)  # NULL: no request is under way
    content_type = models.CharField(_("content type"), max_length=100, blank=True)
    answer = models.BinaryField(_("answer"), null=True)  # NULL: not acknowledged, or not known to be
    created_at = models.DateTimeField(_("accepted"), db_default=Now())
    answered_at = models.DateTimeField(_("acknowledged"), null=True)

    class Meta:
        verbose_name = _("idempotent request")
        verbose_name_plural = _("idempotent requests")
        constraints = [models.UniqueConstraint(fields=["caller", "method", "path", "key"], name="tk_idempotent_unique")]
        indexes = [
            models.Index("created_at", name="tk_idempotent_created"),
            models.Index("event_id", name="tk_idempotent_event"),
        ]

    def __str__(self) -> str:
        return f"{self.caller} {self.method} {self.path} {self.key}"


class OutboxEvent(models.Model):
    """A message that a database transaction published; a relay sends it after the commit."""

    class State(models.IntegerChoices):
        PENDING = 0, _("pending")
        SENT = 1, _("sent")
        FAILED = 2, _("failed")  # holds its lane until resent or discarded
        DISCARDED = 3, _("discarded")

    event_id = models.UUIDField(_("event id"), default=uuid.uuid4, unique=True, editable=False)
    lane = models.BigIntegerField(_("lane"))  # hash of topic and key: what is kept in order
    shard = models.PositiveSmallIntegerField(_("shard"))  # of the lanes: what a relay leases
    state = models.PositiveSmallIntegerField(_("state"), choices=State, default=State.PENDING)
    topic = models.CharField(_("topic"), max_length=249)
    key = models.BinaryField(_("key"), null=True)
    value = models.BinaryField(_("value"), null=True)
    headers = models.TextField(_("headers"), null=True)  # noqa: DJ001  NULL: none; else JSON as tk.record writes it
    partition = models.PositiveIntegerField(_("partition"), null=True)
    timestamp = models.BigIntegerField(_("timestamp"), null=True)  # ms
    error = models.TextField(_("error"), blank=True)
    created_at = models.DateTimeField(_("accepted"), auto_now_add=True)
    sent_at = models.DateTimeField(_("acknowledged"), null=True)
    sent_partition = models.PositiveIntegerField(_("partition sent to"), null=True)
    sent_offset = models.BigIntegerField(_("offset"), null=True)

    class Meta:
        verbose_name = _("outbox event")
        verbose_name_plural = _("outbox events")
        permissions = [("settle_outboxevent", "Can resend and discard failed outbox events")]
        indexes = [
            models.Index("id", name="tk_outbox_pending", condition=models.Q(state=0)),
            models.Index("lane", name="tk_outbox_failed", condition=models.Q(state=2)),
            models.Index("sent_at", name="tk_outbox_sent", condition=models.Q(state=1)),
        ]

    def __str__(self) -> str:
        return f"{self.topic} {self.event_id}"


class OutboxRelay(models.Model):
    """A relay that runs, or ran until a moment ago: relays share the shards evenly."""

    name = models.CharField(_("name"), max_length=100, primary_key=True)
    seen_until = models.DateTimeField(_("alive until"))

    class Meta:
        verbose_name = _("outbox relay")
        verbose_name_plural = _("outbox relays")

    def __str__(self) -> str:
        return self.name


class OutboxShard(models.Model):
    """A relay's lease on a shard of the lanes. The generation rises with each new owner."""

    shard = models.PositiveSmallIntegerField(_("shard"), primary_key=True)
    owner = models.CharField(_("relay"), max_length=100, blank=True)
    generation = models.BigIntegerField(_("generation"), default=0)
    leased_until = models.DateTimeField(_("leased until"), null=True)

    class Meta:
        verbose_name = _("outbox shard")
        verbose_name_plural = _("outbox shards")

    def __str__(self) -> str:
        return str(self.shard)
