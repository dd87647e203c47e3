"""API tokens: made here or by `manage.py token`, shown once, revoked by an action."""

from typing import TYPE_CHECKING, Any

from django.contrib import admin, messages
from django.db.models import QuerySet
from django.forms import ModelForm
from django.http import HttpRequest
from django.utils import timezone
from django.utils.translation import gettext_lazy as _
from django.utils.translation import ngettext

from tk import access
from tk.models import Token

if TYPE_CHECKING:
    Base = admin.ModelAdmin[Token]
else:
    Base = admin.ModelAdmin  # generic for the type checker alone


@admin.register(Token)
class TokenAdmin(Base):
    list_display = ("name", "user_name", "scopes", "topics", "created_at", "expires_at", "revoked_at")
    list_filter = ("revoked_at",)
    search_fields = ("name", "user_name")
    fields = ("name", "user", "scopes", "topics", "expires_at")
    autocomplete_fields = ("user",)
    actions = ("revoke",)

    def has_change_permission(self, request: HttpRequest, obj: Token | None = None) -> bool:
        """A token is made and revoked, not changed: what it may do is what its maker saw."""
        return obj is None and super().has_change_permission(request, obj)

    def save_model(self, request: HttpRequest, obj: Token, form: "ModelForm[Token]", change: Any) -> None:
        text, obj.digest = access.new_token()
        obj.user_name = obj.user.get_username() if obj.user is not None else ""
        super().save_model(request, obj, form, change)
        messages.warning(request, _("The token, shown this once: %(token)s") % {"token": text})

    @admin.action(description=_("Revoke the selected tokens"), permissions=["delete"])
    def revoke(self, request: HttpRequest, queryset: "QuerySet[Token]") -> None:
        tokens = list(queryset.filter(revoked_at=None))
        for token in tokens:
            token.revoked_at = timezone.now()
            token.save(update_fields=["revoked_at"])
            self.log_change(request, token, "revoked")
        text = ngettext("%(count)d token revoked.", "%(count)d tokens revoked.", len(tokens))
        messages.success(request, text % {"count": len(tokens)})
