"""The store in Django's admin, made for tables of any size: nothing here counts or scans messages to open a page."""

import re
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import TYPE_CHECKING, Any

from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.utils.translation import gettext_lazy as _
from django.utils.translation import ngettext

from tk.access import Caller
from tk.bigtable import BigTable, Fitting, Since, since, sure
from tk.errors import TkError
from tk.paging import NewestPaginator
from tk.record import dump_headers, load_headers, text_or_base64
from tkcons import deadletters, groups, reader, web
from tkcons.errors import SearchTookTooLong, TkconsError
from tkcons.masking import mask
from tkcons.models import DeadLetter, Group, Member, Message, Position
from tkcons.reader import as_dict
from tkcons.viewer import store

if TYPE_CHECKING:
    GroupBase = admin.ModelAdmin[Group]
    MemberBase = admin.ModelAdmin[Member]
    MessageBase = admin.ModelAdmin[Message]
    LetterBase = admin.ModelAdmin[DeadLetter]
    PositionBase = admin.ModelAdmin[Position]
else:  # generic for the type checker alone
    GroupBase = MemberBase = MessageBase = LetterBase = PositionBase = admin.ModelAdmin

PLACE = re.compile(r"(?P<topic>[\w.-]+)\[(?P<partition>\d{1,9})\](?:@(?P<offset>\d{1,18}))?")


class ReadOnly(Fitting):
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


class StoredSince(Since):
    """By time of storing: no index has it, but primary keys rise with it."""

    def younger(self, queryset: "QuerySet[Message]", since: datetime) -> "QuerySet[Message]":
        low, _ = store.keys(since, None, queryset.db)
        return queryset.filter(pk__gte=low, stored_at__gte=since)


class PartitionFilter(admin.SimpleListFilter):
    """A partition that a group stores: the unique index has its offsets in order."""

    title = _("partition")
    parameter_name = "place"

    def lookups(self, request: HttpRequest, model_admin: Any) -> Iterator[tuple[str, str]]:
        stored = Position.objects.filter(stores=True).order_by("group", "topic", "partition")
        for position in stored[:500]:
            yield str(position.pk), f"{position.group} {position.topic}[{position.partition}]"

    def queryset(self, request: HttpRequest, queryset: "QuerySet[Message]") -> "QuerySet[Message]":
        value = self.value() or ""
        return queryset.filter(position_id=int(value)) if value.isascii() and value.isdigit() else queryset


@admin.register(Message)
class MessageAdmin(BigTable, ReadOnly, MaskedHeaders, MessageBase):
    list_display = ("__str__", "key_text", "value_text", "stored_at")
    list_select_related = ("position",)
    list_filter = (PartitionFilter, StoredSince)
    search_fields = ("pk",)
    search_help_text = _("topic[partition], topic[partition]@offset, or an id; for texts, see the page of messages")
    fields = ("position", "offset", "timestamp", "key_text", "value_whole", "headers_text", "stored_at")
    readonly_fields = fields

    def has_view_permission(self, request: HttpRequest, obj: Message | None = None) -> bool:
        return request.user.has_perm(reader.VIEW)

    def get_ordering(self, request: HttpRequest) -> tuple[str, ...]:
        """Newest first, in the order of the index that serves what is asked for."""
        of_places = PartitionFilter.parameter_name in request.GET or PLACE.fullmatch(request.GET.get("q", "").strip())
        return ("-position_id", "-offset") if of_places else ("-pk",)

    def get_queryset(self, request: HttpRequest) -> "QuerySet[Message]":
        return super().get_queryset(request).select_related("position")

    def get_search_results(
        self, request: HttpRequest, queryset: "QuerySet[Message]", search_term: str
    ) -> "tuple[QuerySet[Message], bool]":
        term = search_term.strip()
        if not term:
            return queryset, False
        if place := PLACE.fullmatch(term):
            positions = Position.objects.filter(topic=place["topic"], partition=int(place["partition"]))
            queryset = queryset.filter(position_id__in=list(positions.values_list("pk", flat=True)))
            return (queryset.filter(offset=int(place["offset"])) if place["offset"] else queryset), False
        is_key = term.isascii() and term.isdigit() and len(term) < 19
        return (queryset.filter(pk=int(term)) if is_key else queryset.none()), False

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
    list_display = ("group", "topic", "partition", "next_offset", "claimed_by")
    list_filter = ("group", "topic")
    search_fields = ("group", "topic")
    ordering = ("group", "topic", "partition")


@admin.register(Group)
class GroupAdmin(ReadOnly, GroupBase):
    list_display = ("name", "desired", "changed_at", "changed_by")
    list_filter = ("desired", "changed_at")
    search_fields = ("name",)
    fields = ("name", "desired", "changed_at", "changed_by", "lease_owner", "leased_until")
    ordering = ("name",)
    actions = ("start", "pause", "stop")

    def has_control_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm(groups.CONTROL)

    @admin.action(description=_("Start"), permissions=["control"])
    def start(self, request: HttpRequest, queryset: "QuerySet[Group]") -> HttpResponse | None:
        return self._want(request, queryset, Group.State.RUNNING, self.start)

    @admin.action(description=_("Pause"), permissions=["control"])
    def pause(self, request: HttpRequest, queryset: "QuerySet[Group]") -> HttpResponse | None:
        return self._want(request, queryset, Group.State.PAUSED, self.pause)

    @admin.action(description=_("Stop"), permissions=["control"])
    def stop(self, request: HttpRequest, queryset: "QuerySet[Group]") -> HttpResponse | None:
        return self._want(request, queryset, Group.State.STOPPED, self.stop)

    def _want(
        self, request: HttpRequest, queryset: "QuerySet[Group]", state: Group.State, action: Callable[..., Any]
    ) -> HttpResponse | None:
        title = _("These groups will be wanted: %(state)s") % {"state": state.label}
        if asked := sure(self, request, queryset, title, action):
            return asked
        try:
            names = groups.want(state, _caller(request), [group.name for group in queryset])
        except (TkError, TkconsError) as error:
            self.message_user(request, error.shown, messages.ERROR)
            return None
        if state != Group.State.STOPPED:
            web.ensure_started()
        self.message_user(request, f"{state.label}: {', '.join(names)}")
        return None


@admin.register(Member)
class MemberAdmin(ReadOnly, MemberBase):
    list_display = ("name", "group", "state", "seen_at", "error")
    list_filter = ("group", "state", "in_web")
    search_fields = ("name", "host", "error")
    ordering = ("group", "name")


class LetterGroupFilter(admin.SimpleListFilter):
    """The groups of this installation: a list of those in the table would have to read it whole."""

    title = _("group")
    parameter_name = "group"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [(name, name) for name in sorted(groups.specs())]

    def queryset(self, request: HttpRequest, queryset: "QuerySet[DeadLetter]") -> "QuerySet[DeadLetter]":
        return queryset if self.value() is None else queryset.filter(group=self.value())


class LetterStateFilter(admin.SimpleListFilter):
    title = _("state")
    parameter_name = "state"

    def lookups(self, request: HttpRequest, model_admin: Any) -> Any:
        return DeadLetter.State.choices

    def queryset(self, request: HttpRequest, queryset: "QuerySet[DeadLetter]") -> "QuerySet[DeadLetter]":
        return queryset if self.value() is None else queryset.filter(state=self.value())


@admin.register(DeadLetter)
class DeadLetterAdmin(BigTable, ReadOnly, MaskedHeaders, LetterBase):
    list_display = ("made_at", "state", "group", "place", "cause_short")
    list_filter = (LetterStateFilter, LetterGroupFilter, since("made_at"))
    search_fields = ("cause",)
    search_help_text = _("group, topic, cause, and text in key or value")
    ordering = ("-made_at", "-pk")
    actions = ("resend", "discard")
    fields = (
        *("id", "state", "changed_by", "changed_at", "group", "topic", "topic_id", "partition", "offset", "timestamp"),
        *("key_text", "value_text", "headers_text", "cause", "traceback", "tries"),
        *("dead_topic", "dead_partition", "dead_offset", "made_at"),
    )
    readonly_fields = fields
    of_message = ("key_text", "value_text", "headers_text")

    def get_queryset(self, request: HttpRequest) -> "QuerySet[DeadLetter]":
        letters = super().get_queryset(request)
        # The list shows no value, which may have megabytes.
        if request.resolver_match and "object_id" in request.resolver_match.kwargs:
            return letters
        return letters.defer("key", "value", "headers", "traceback")

    def get_search_results(
        self, request: HttpRequest, queryset: "QuerySet[DeadLetter]", search_term: str
    ) -> "tuple[QuerySet[DeadLetter], bool]":
        if not search_term:
            return queryset, False
        reads = request.user.has_perm(reader.VIEW)
        try:
            found = deadletters.search(queryset, search_term, NewestPaginator.LIMIT, in_messages=reads)
        except SearchTookTooLong as error:
            self.message_user(request, error.shown, messages.WARNING)
            return queryset.none(), False
        return queryset.filter(pk__in=[letter.pk for letter in found]), False

    def get_fields(self, request: HttpRequest, obj: DeadLetter | None = None) -> list[Any]:
        """The message itself is for who may read messages."""
        reads = request.user.has_perm(reader.VIEW)
        return [name for name in self.fields if reads or name not in self.of_message]

    def has_settle_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm(deadletters.SETTLE)

    @admin.action(description=_("Handle again, by their group's handler alone"), permissions=["settle"])
    def resend(self, request: HttpRequest, queryset: "QuerySet[DeadLetter]") -> HttpResponse | None:
        return self._settle(request, queryset, deadletters.resend, self.resend)

    @admin.action(description=_("Discard"), permissions=["settle"])
    def discard(self, request: HttpRequest, queryset: "QuerySet[DeadLetter]") -> HttpResponse | None:
        return self._settle(request, queryset, deadletters.discard, self.discard)

    def _settle(
        self,
        request: HttpRequest,
        queryset: "QuerySet[DeadLetter]",
        service: Callable[..., int],
        action: Callable[..., Any],
    ) -> HttpResponse | None:
        letters = list(queryset[: NewestPaginator.LIMIT])
        if service is deadletters.resend:
            title = ngettext(
                "Handle %(count)d dead letter again?", "Handle %(count)d dead letters again?", len(letters)
            )
            done = _("will be handled again when their group runs")
        else:
            title = ngettext("Discard %(count)d dead letter?", "Discard %(count)d dead letters?", len(letters))
            done = _("discarded")
        if asked := sure(self, request, letters, title % {"count": len(letters)}, action):
            return asked
        try:
            count = service([letter.pk for letter in letters], _caller(request), queryset.db)
        except (TkError, TkconsError) as error:
            self.message_user(request, error.shown, messages.ERROR)
            return None
        self.message_user(request, f"{count}: {done}")
        return None

    @admin.display(description=_("message"))
    def place(self, letter: DeadLetter) -> str:
        return f"{letter.topic}[{letter.partition}]@{letter.offset}"

    @admin.display(description=_("cause"))
    def cause_short(self, letter: DeadLetter) -> str:
        return letter.cause[:120]

    @admin.display(description=_("key"))
    def key_text(self, letter: DeadLetter) -> str | None:
        return text_or_base64(mask().data(None if letter.key is None else bytes(letter.key)))[0]

    @admin.display(description=_("value"))
    def value_text(self, letter: DeadLetter) -> str | None:
        return text_or_base64(mask().data(None if letter.value is None else bytes(letter.value)))[0]


def _caller(request: HttpRequest) -> Caller:
    return Caller(request.user.get_username(), request.user)
