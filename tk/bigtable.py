"""Django's admin on tables of any size: lists that neither count, sort nor scan; times as a filter; questions first."""

from collections.abc import Callable, Iterable, Iterator
from datetime import datetime, timedelta
from typing import Any, ClassVar

from django.contrib.admin import ModelAdmin, ShowFacets, SimpleListFilter, helpers
from django.contrib.admin.views.main import ChangeList
from django.db.models import QuerySet
from django.http import HttpRequest
from django.template.response import TemplateResponse
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from tk.paging import NewestPaginator

SPANS = {"hour": timedelta(hours=1), "day": timedelta(days=1), "week": timedelta(days=7), "month": timedelta(days=30)}
CLOCKS = timedelta(seconds=5)  # that the clocks of the hosts which make rows may differ


class Fitting:
    """Mixed into a ModelAdmin: its list fits the window."""

    class Media:
        css: ClassVar[dict[str, tuple[str, ...]]] = {"all": ("tk/admin.css",)}


class OneOrder(ChangeList):
    """Rows come in the order that an index serves, whatever ?o= asks for."""

    def get_ordering(self, request: HttpRequest, queryset: "QuerySet[Any]") -> list[Any]:
        return list(self.model_admin.get_ordering(request))


class BigTable(Fitting):
    """Mixed into a ModelAdmin: `ordering` is the one order, and an address may ask for nothing but the filters."""

    sortable_by: Any = ()
    paginator: Any = NewestPaginator
    show_full_result_count = False
    show_facets = ShowFacets.NEVER  # each would count the table once for each choice
    actions_selection_counter = False  # no "select all": a page at a time

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        return OneOrder

    def lookup_allowed(self, lookup: str, value: str, request: HttpRequest) -> bool:
        """Filters are classes with a parameter of their own; ?value__contains= would read the whole table."""
        filters: Any = getattr(self, "list_filter", ())
        return lookup in {each.parameter_name for each in filters}


class Since(SimpleListFilter):
    """What is younger than a span: instead of a date hierarchy, which groups the whole table. `field` in subclasses."""

    title = _("time")
    parameter_name = "since"
    field = ""

    def lookups(self, request: HttpRequest, model_admin: Any) -> Iterator[tuple[str, Any]]:
        yield "hour", _("the last hour")
        yield "day", _("the last 24 hours")
        yield "week", _("the last 7 days")
        yield "month", _("the last 30 days")

    def queryset(self, request: HttpRequest, queryset: "QuerySet[Any]") -> "QuerySet[Any]":
        span = SPANS.get(self.value() or "")
        return queryset if span is None else self.younger(queryset, timezone.now() - span)

    def younger(self, queryset: "QuerySet[Any]", since: Any) -> "QuerySet[Any]":
        """The rows from this time on, by an index."""
        return queryset.filter(**{f"{self.field}__gte": since})


def since(of: str) -> type[Since]:
    """A Since on the field `of`, which an index serves."""
    return type("SinceOn", (Since,), {"field": of})


def since_by_key(of: str) -> type[Since]:
    """A Since on the field `of`, which no index has, but with which primary keys rise."""

    def younger(self: Since, queryset: "QuerySet[Any]", since: Any) -> "QuerySet[Any]":
        rows = queryset.model.objects.using(queryset.db)
        return queryset.filter(**{"pk__gte": first_key(rows, of, since - CLOCKS), f"{of}__gte": since})

    return type("SinceByKey", (Since,), {"younger": younger})


def first_key(rows: "QuerySet[Any]", field: str, since: datetime) -> int:
    """The primary key from which on rows have this time or a later one, by bisection: one row a step."""
    keys = rows.order_by("pk").values_list("pk", field)
    first, last = keys.first(), keys.last()
    if first is None or last is None or first[1] >= since:
        return 0
    low: int = first[0]
    high: int = last[0] + 1  # the answer is above low, at most this
    while high - low > 1:
        middle = (low + high) // 2
        seen = keys.filter(pk__gte=middle).first()
        if seen is None or seen[1] >= since:
            high = middle
        else:
            low = seen[0]
    return high


def sure(
    admin: "ModelAdmin[Any]",
    request: HttpRequest,
    chosen: Iterable[Any],
    title: Any,
    action: Callable[..., Any],
    *,
    note: Any = "",
    describe: Callable[[Any], str] = str,
) -> TemplateResponse | None:
    """None when the person has said yes to the action on these rows; else the page that asks. note: what it will do."""
    if "sure" in request.POST:
        return None
    context = admin.admin_site.each_context(request) | {
        "title": title,
        "opts": admin.opts,
        "note": note,
        "rows": [(row.pk, describe(row)) for row in chosen],
        "action": action.__name__,
        "action_checkbox_name": helpers.ACTION_CHECKBOX_NAME,
        "media": admin.media,
    }
    return TemplateResponse(request, "tk/sure.html", context)
