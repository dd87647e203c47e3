"""API tokens."""

from django.conf import settings
from django.db import models
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
