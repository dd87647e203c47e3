"""API tokens: made here or by `manage.py token`, shown once, revoked by an action. The outbox: looked at; failed events
resent or discarded. Nothing here counts or scans the outbox to open a page."""

import uuid
from typing import TYPE_CHECKING, Any

from django.contrib import admin, messages
from django.db.models import Max, QuerySet
from django.forms import ModelForm
from django.http import HttpRequest, HttpResponse
from django.utils import timezone
from django.utils.translation import gettext_lazy as _
from django.utils.translation import ngettext

from tk import access, upkeep
from tk.access import Caller
from tk.bigtable import BigTable, Fitting, since_by_key, sure
from tk.errors import TkError
from tk.models import OutboxEvent, Token
from tk.record import text_or_base64

if TYPE_CHECKING:
    Base = admin.ModelAdmin[Token]
    EventBase = admin.ModelAdmin[OutboxEvent]
else:  # generic for the type checker alone
    Base = EventBase = admin.ModelAdmin

SHOWN = 10_000  # characters of a value
SEARCHED = 100_000  # of the newest events, where a topic is looked for: an index of topics would cost each publish()


@admin.register(Token)
class TokenAdmin(Fitting, Base):
    list_display = ("name", "user_name", "scopes", "topics", "expires_at", "revoked_at")
    list_filter = ("revoked_at", "expires_at", "created_at")
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
    def revoke(self, request: HttpRequest, queryset: "QuerySet[Token]") -> HttpResponse | None:
        if asked := sure(self, request, queryset, _("Revoke these tokens?"), self.revoke):
            return asked
        tokens = list(queryset.filter(revoked_at=None))
        for token in tokens:
            token.revoked_at = timezone.now()
            token.save(update_fields=["revoked_at"])
            self.log_change(request, token, "revoked")
        text = ngettext("%(count)d token revoked.", "%(count)d tokens revoked.", len(tokens))
        messages.success(request, text % {"count": len(tokens)})
        return None


class StateFilter(admin.SimpleListFilter):
    title = _("state")
    parameter_name = "state"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, Any]]:
        states = OutboxEvent.State
        return [(str(state.value), state.label) for state in (states.PENDING, states.FAILED, states.SENT)]

    def queryset(self, request: HttpRequest, queryset: Any) -> Any:
        if self.value() not in {value for value, _label in self.lookups(request, None)}:
            return queryset
        found = queryset.filter(upkeep.in_state(int(self.value() or 0)))
        # Few fail: looked for by their own index first, or SQLite would walk the table in the list's order.
        return queryset.filter(pk__in=found.values("pk")) if self.value() == str(OutboxEvent.State.FAILED) else found


@admin.register(OutboxEvent)
class OutboxEventAdmin(BigTable, EventBase):
    list_display = ("event_id", "state", "topic", "created_at", "error_short")
    list_filter = (StateFilter, since_by_key("created_at"))
    search_fields = ("event_id",)
    search_help_text = _("an event id, or how a topic begins (among the newest 100,000)")
    ordering = ("-pk",)
    actions = ("resend", "discard")
    fields = (
        *("event_id", "state", "topic", "key_text", "value_text", "headers", "partition", "timestamp", "created_at"),
        *("sent_at", "sent_partition", "sent_offset", "error"),
    )
    readonly_fields = fields

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    has_change_permission = has_delete_permission = has_add_permission

    def has_settle_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm(upkeep.SETTLE)

    def get_queryset(self, request: HttpRequest) -> "QuerySet[OutboxEvent]":
        events = super().get_queryset(request)
        one = request.resolver_match is not None and "object_id" in request.resolver_match.kwargs
        return events if one else events.defer("value", "headers")  # a value may have megabytes

    def get_search_results(
        self, request: HttpRequest, queryset: "QuerySet[OutboxEvent]", search_term: str
    ) -> "tuple[QuerySet[OutboxEvent], bool]":
        if not search_term:
            return queryset, False
        try:
            return queryset.filter(event_id=uuid.UUID(search_term.strip())), False
        except ValueError:
            newest = OutboxEvent.objects.using(queryset.db).aggregate(Max("pk"))["pk__max"] or 0
            return queryset.filter(topic__startswith=search_term.strip(), pk__gt=newest - SEARCHED), False

    @admin.action(description=_("Send again what failed"), permissions=["settle"])
    def resend(self, request: HttpRequest, queryset: "QuerySet[OutboxEvent]") -> HttpResponse | None:
        note = _("They go out before what comes after them in their keys.")
        return self._settle(request, queryset, upkeep.resend, self.resend, _("Send these events again?"), note)

    @admin.action(description=_("Discard what failed"), permissions=["settle"])
    def discard(self, request: HttpRequest, queryset: "QuerySet[OutboxEvent]") -> HttpResponse | None:
        note = _("They are never sent; what comes after them in their keys is.")
        return self._settle(request, queryset, upkeep.discard, self.discard, _("Discard these events?"), note)

    def _settle(
        self, request: HttpRequest, queryset: "QuerySet[OutboxEvent]", change: Any, action: Any, title: Any, note: Any
    ) -> HttpResponse | None:
        failed = list(queryset.filter(upkeep.in_state(OutboxEvent.State.FAILED)))
        if not failed:
            self.message_user(request, _("None of the selected events has failed."), messages.WARNING)
            return None
        if asked := sure(self, request, failed, title, action, note=note, describe=_with_error):
            return asked
        try:
            count = change([event.pk for event in failed], _caller(request), queryset.db)
        except TkError as error:
            self.message_user(request, error.shown, messages.ERROR)
            return None
        text = ngettext("%(count)d event changed.", "%(count)d events changed.", count)
        self.message_user(request, text % {"count": count}, messages.SUCCESS)
        return None

    @admin.display(description=_("key"))
    def key_text(self, event: OutboxEvent) -> str:
        return _text(event.key)[:80]

    @admin.display(description=_("value"))
    def value_text(self, event: OutboxEvent) -> str:
        text = _text(event.value)
        return text if len(text) <= SHOWN else f"{text[:SHOWN]}…"

    @admin.display(description=_("error"))
    def error_short(self, event: OutboxEvent) -> str:
        return event.error[:120]


def _with_error(event: OutboxEvent) -> str:
    return f"{event}: {event.error[:120]}"


def _caller(request: HttpRequest) -> Caller:
    return Caller(request.user.get_username(), request.user)


def _text(data: Any) -> str:
    return text_or_base64(None if data is None else bytes(data))[0] or ""
