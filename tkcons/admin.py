"""The store in Django's admin, made for tables of any size: nothing here counts or scans messages to open a page."""

from typing import TYPE_CHECKING, Any

from django.contrib import admin
from django.core.paginator import Paginator
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.functional import cached_property
from django.utils.translation import gettext_lazy as _

from tkcons.models import Group, Member, Message, Position
from tkcons.reader import as_dict

if TYPE_CHECKING:
    GroupBase = admin.ModelAdmin[Group]
    MemberBase = admin.ModelAdmin[Member]
    MessageBase = admin.ModelAdmin[Message]
    PositionBase = admin.ModelAdmin[Position]
    PaginatorBase = Paginator[Message]
else:  # generic for the type checker alone
    GroupBase = MemberBase = MessageBase = PositionBase = admin.ModelAdmin
    PaginatorBase = Paginator


class ReadOnly:
    """What the consumer writes, people read."""

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


class NewestPaginator(PaginatorBase):
    """The newest rows alone, without a count: older ones are found by their position, or on /tkcons/read."""

    LIMIT = 1_000

    @cached_property
    def count(self) -> int:
        rows: Any = self.object_list
        return len(rows[: self.LIMIT].values_list("pk"))


@admin.register(Message)
class MessageAdmin(ReadOnly, MessageBase):
    list_display = ("id", "topic", "partition", "offset", "key_text", "value_text", "stored_at")
    list_select_related = ("position",)
    ordering = ("-pk",)
    paginator = NewestPaginator
    show_full_result_count = False
    fields = ("position", "offset", "timestamp", "key_text", "value_whole", "headers", "stored_at")
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
