"""What somebody looks for: the form that reads it from an address, and the conditions that it means."""

import json
from datetime import UTC, datetime
from typing import Any

import msgspec
from django import forms
from django.db.models import Q
from django.http import QueryDict
from django.utils.functional import lazy
from django.utils.translation import gettext_lazy as _
from django.utils.translation import gettext_noop, override

from tk.access import Caller
from tk.errors import BadRequest
from tkcons.lookups import Contains
from tkcons.masking import mask
from tkcons.viewer.rows import Found, Place
from tkcons.zoned import ZonedForm


class BadQuery(BadRequest):
    text = gettext_noop("The search cannot be understood.")
    code = "bad_query"


class Query(msgspec.Struct, frozen=True):
    """What is looked for; fields that are empty or None match everything. Times are of storing, `until` exclusive."""

    topic: str = ""
    topic_id: str = ""
    group: str = ""
    partition: int | None = None
    offset: int | None = None
    since: datetime | None = None
    until: datetime | None = None
    key: str = ""
    header: str = ""
    text: str = ""

    def __bool__(self) -> bool:
        return self != Query()

    @property
    def is_scan(self) -> bool:
        """Whether rows must be looked into, which no index helps with."""
        return bool(self.key or self.header or self.text)

    @property
    def header_pair(self) -> tuple[str, str | None]:
        """`name`, or `name: value`, as the field takes it."""
        name, colon, value = self.header.partition(":")
        return name.strip(), value.strip() if colon else None

    def takes(self, place: Place) -> bool:
        return (
            (not self.topic or place.topic == self.topic)
            and (not self.topic_id or place.topic_id == self.topic_id)
            and (not self.group or place.group == self.group)
            and (self.partition is None or place.partition == self.partition)
        )

    def condition(self) -> Q:
        """What the database can say of rows: what it lets through is looked at by `matches`."""
        condition = Q()
        if self.offset is not None:
            condition &= Q(offset=self.offset)
        if self.since is not None:
            condition &= Q(stored_at__gte=self.since)
        if self.until is not None:
            condition &= Q(stored_at__lt=self.until)
        if self.key:
            condition &= Q(key=self.key.encode())
        if self.header:
            condition &= Q(headers__contains=self._stored_header())
        if self.text:
            condition &= Q(Contains("value", self.text.encode()))
        return condition

    def _stored_header(self) -> str:
        """How tk.record.dump_headers writes it; a quote inside a value is escaped there, so this is no part of one."""
        name, value = self.header_pair
        start = json.dumps(name, ensure_ascii=False)
        return f"[{start}," if value is None else f"[{start},{json.dumps(value, ensure_ascii=False)}]"

    def matches(self, row: Found) -> bool:
        """Whether the row is what is looked for, by what people may see of it: a masked value cannot be guessed at."""
        hidden = mask()
        if self.key and (hidden.data(row.key) or b"") != self.key.encode():
            return False
        if self.header:
            name, value = self.header_pair
            wanted = None if value is None else value.encode()
            if not any(n == name and (value is None or v == wanted) for n, v in hidden.headers(row.headers)):
                return False
        if not self.text:
            return True
        if hidden and row.value is not None and row.size > len(row.value):
            return False  # too long to be masked: not shown in rows, and not searched
        return not hidden or self.text.encode() in (hidden.data(row.value) or b"")

    def matches_live(self, row: Found) -> bool:
        """`matches` for a row that no query has chosen."""
        if self.offset is not None and row.offset != self.offset:
            return False
        if self.until is not None and row.stored_at >= self.until:
            return False
        if self.since is not None and row.stored_at < self.since:
            return False
        return (not self.text or self.text.encode() in (row.value or b"")) and self.matches(row)


class Form(ZonedForm):
    """The search form; its fields are the names in addresses."""

    topic = forms.CharField(label=_("Topic"), required=False, max_length=249)
    partition = forms.IntegerField(label=_("Partition"), required=False, min_value=0, max_value=2**31 - 1)
    offset = forms.IntegerField(label=_("Offset"), required=False, min_value=0, max_value=2**63 - 1)
    since = forms.DateTimeField(label=_("Stored from"), required=False)
    until = forms.DateTimeField(label=_("until"), required=False)
    key = forms.CharField(label=_("Key"), required=False, max_length=1_000, strip=False)
    header = forms.CharField(label=_("Header"), required=False, max_length=1_000)
    text = forms.CharField(label=_("Text in the value"), required=False, max_length=1_000, strip=False)
    group = forms.CharField(required=False, max_length=249, widget=forms.HiddenInput)
    topic_id = forms.CharField(required=False, max_length=22, widget=forms.HiddenInput)

    def __init__(self, data: QueryDict) -> None:
        super().__init__(data, auto_id="find-%s", label_suffix="")
        for name in ("since", "until"):
            self.fields[name].widget = forms.DateTimeInput(attrs={"type": "datetime-local", "step": "1"})
        for name in ("partition", "offset"):
            self.fields[name].widget.attrs["inputmode"] = "numeric"
        self.fields["header"].widget.attrs["placeholder"] = _("name or name: value")
        for name in ("key", "header", "text", "topic"):
            self.fields[name].widget.attrs |= {"autocomplete": "off", "spellcheck": "false", "autocapitalize": "off"}

    def clean(self) -> dict[str, Any]:
        given = super().clean() or {}
        if given.get("offset") is not None and not given.get("topic"):
            self.add_error("offset", _("An offset needs a topic."))
        if given.get("text") and "\0" in given["text"]:
            self.add_error("text", _("There is no NUL in text."))
        return given

    def query(self) -> Query:
        """The query. Raises BadQuery with the first thing that is wrong."""
        if not self.is_valid():
            field, errors = next(iter(self.errors.items()))
            with override(None):  # as programs read it; pages translate it
                raise BadQuery("%(field)s: %(error)s", field=field, error=lazy(lambda: errors[0], str)())
        given = {name: value for name, value in self.cleaned_data.items() if name != "zone" and value is not None}
        for name in given.keys() & {"since", "until"}:
            given[name] = given[name].astimezone(UTC)  # in a zone, a second more or less may be one that UTC has not
        return Query(**given)


def visible(places: list[Place], query: Query, caller: Caller) -> dict[int, Place]:
    """The places that the query takes and the caller may see, by primary key."""
    return {place.pk: place for place in places if query.takes(place) and caller.sees(place.topic)}
