"""The store in Django's admin, made for tables of any size: nothing here counts or scans messages to open a page."""

from typing import TYPE_CHECKING, Any

from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.translation import gettext_lazy as _

from tk.access import Caller
from tk.errors import TkError
from tk.paging import NewestPaginator
from tk.record import dump_headers, load_headers, text_or_base64
from tkcons import deadletters
from tkcons.errors import TkconsError
from tkcons.masking import mask
from tkcons.models import DeadLetter, Group, Member, Message, Position
from tkcons.reader import as_dict

if TYPE_CHECKING:
    GroupBase = admin.ModelAdmin[Group]
    MemberBase = admin.ModelAdmin[Member]
    MessageBase = admin.ModelAdmin[Message]
    LetterBase = admin.ModelAdmin[DeadLetter]
    PositionBase = admin.ModelAdmin[Position]
else:  # generic for the type checker alone
    GroupBase = MemberBase = MessageBase = LetterBase = PositionBase = admin.ModelAdmin


class ReadOnly:
    """What the consumer writes, people read."""

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


class MaskedHeaders:
    """Headers as they are stored, but for what nobody gets to see."""

    @admin.display(description=_("headers"))
    def headers_text(self, row: Message | DeadLetter) -> str | None:
        return dump_headers(mask().headers(load_headers(row.headers)))


@admin.register(Message)
class MessageAdmin(ReadOnly, MaskedHeaders, MessageBase):
    list_display = ("id", "topic", "partition", "offset", "key_text", "value_text", "stored_at")
    list_select_related = ("position",)
    ordering = ("-pk",)
    paginator = NewestPaginator
    show_full_result_count = False
    fields = ("position", "offset", "timestamp", "key_text", "value_whole", "headers_text", "stored_at")
    readonly_fields = fields

    def has_view_permission(self, request: HttpRequest, obj: Message | None = None) -> bool:
        return request.user.has_perm("tkcons.view_payload")

    def get_queryset(self, request: HttpRequest) -> "QuerySet[Message]":
        return super().get_queryset(request).select_related("position")

    @admin.display(description=_("topic"))
    def topic(self, message: Message) -> str:
        return message.position.topic

    @admin.display(description=_("partition"))
    def partition(self, message: Message) -> int:
        return message.position.partition

    @admin.display(description=_("key"))
    def key_text(self, message: Message) -> str | None:
        key: str | None = as_dict(message)["key"]
        return key[:80] if key else key

    @admin.display(description=_("value"))
    def value_text(self, message: Message) -> str | None:
        value: str | None = as_dict(message)["value"]
        return value[:200] if value else value

    @admin.display(description=_("value"))
    def value_whole(self, message: Message) -> str | None:
        value: str | None = as_dict(message)["value"]
        return value


@admin.register(Position)
class PositionAdmin(ReadOnly, PositionBase):
    list_display = ("group", "topic", "partition", "next_offset", "generation", "updated_at")
    list_filter = ("group", "topic")
    search_fields = ("group", "topic")


@admin.register(Group)
class GroupAdmin(ReadOnly, GroupBase):
    list_display = ("name", "desired", "changed_at", "changed_by")


@admin.register(Member)
class MemberAdmin(ReadOnly, MemberBase):
    list_display = ("name", "group", "state", "stored", "in_web", "seen_at", "error")
    list_filter = ("group", "state")


@admin.register(DeadLetter)
class DeadLetterAdmin(ReadOnly, MaskedHeaders, LetterBase):
    list_display = (
        "id",
        "group",
        "topic",
        "partition",
        "offset",
        "cause_short",
        "tries",
        "state",
        "made_at",
        "changed_by",
    )
    list_filter = ("state", "group", "topic")
    search_fields = ("cause",)
    search_help_text = _("group, topic, cause, and text in key or value")
    ordering = ("-made_at",)
    paginator = NewestPaginator
    show_full_result_count = False
    actions = ("resend", "discard")
    fields = (
        *("id", "state", "changed_by", "changed_at", "group", "topic", "topic_id", "partition", "offset", "timestamp"),
        *("key_text", "value_text", "headers_text", "cause", "traceback", "tries"),
        *("dead_topic", "dead_partition", "dead_offset", "made_at"),
    )
    readonly_fields = fields

    def get_queryset(self, request: HttpRequest) -> "QuerySet[DeadLetter]":
        letters = super().get_queryset(request)
        # The list shows no value, which may have megabytes.
        return (
            letters
            if request.resolver_match and "object_id" in request.resolver_match.kwargs
            else letters.defer("value")
        )

    def get_search_results(
        self, request: HttpRequest, queryset: "QuerySet[DeadLetter]", search_term: str
    ) -> "tuple[QuerySet[DeadLetter], bool]":
        return (queryset.filter(deadletters.matches(search_term)) if search_term else queryset), False

    def has_settle_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm(deadletters.SETTLE)

    @admin.action(description=_("Handle again, by their group's handler alone"), permissions=["settle"])
    def resend(self, request: HttpRequest, queryset: "QuerySet[DeadLetter]") -> None:
        self._settle(request, queryset, deadletters.resend, _("will be handled again when their group runs"))

    @admin.action(description=_("Discard"), permissions=["settle"])
    def discard(self, request: HttpRequest, queryset: "QuerySet[DeadLetter]") -> None:
        self._settle(request, queryset, deadletters.discard, _("discarded"))

    def _settle(self, request: HttpRequest, queryset: Any, change: Any, done: Any) -> None:
        chosen = list(queryset.values_list("pk", flat=True))
        try:
            count = change(chosen, Caller(request.user.get_username(), request.user), queryset.db)
        except (TkError, TkconsError) as error:
            self.message_user(request, str(error), messages.ERROR)
            return
        self.message_user(request, f"{count}: {done}")

    @admin.display(description=_("cause"))
    def cause_short(self, letter: DeadLetter) -> str:
        return letter.cause[:120]

    @admin.display(description=_("key"))
    def key_text(self, letter: DeadLetter) -> str | None:
        return text_or_base64(mask().data(None if letter.key is None else bytes(letter.key)))[0]

    @admin.display(description=_("value"))
    def value_text(self, letter: DeadLetter) -> str | None:
        return text_or_base64(mask().data(None if letter.value is None else bytes(letter.value)))[0]
