"""A form that produces: for trying things out, with the same rules, permissions and producer as /tkprod."""

from itertools import repeat
from typing import Any

from django import forms
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.shortcuts import render
from django.utils.translation import gettext_lazy as _
from django.utils.translation import gettext_noop

from tk import access, api
from tk.access import Caller
from tk.conf import settings as tk_settings
from tk.errors import BadRequest, TkError
from tk.record import Receipt, Record
from tkcons.guard import guarded
from tkcons.viewer.views import is_consumed

PRODUCE = "tk.produce"
MOST = 1_000  # messages of one form


class ProduceForm(forms.Form):
    """A message, and how often to send it."""

    topic = forms.CharField(label=_("Topic"), max_length=249)
    key = forms.CharField(label=_("Key"), required=False, strip=False)
    value = forms.CharField(label=_("Value"), required=False, strip=False, widget=forms.Textarea({"rows": 8}))
    headers = forms.CharField(
        label=_("Headers, one a line: name: value"), required=False, widget=forms.Textarea({"rows": 2})
    )
    tombstone = forms.BooleanField(label=_("A tombstone (null) instead of the value"), required=False)
    repeat = forms.IntegerField(label=_("How often"), min_value=1, max_value=MOST, initial=1)

    def record(self) -> Record:
        """What the form asks for. Raises BadRequest."""
        data = self.cleaned_data
        value = None if data["tombstone"] else data["value"].replace("\r\n", "\n")
        return api.record(data["topic"], value, key=data["key"] or None, headers=_headers(data["headers"]))


def _headers(text: str) -> list[tuple[str, str | bytes | None]]:
    pairs: list[tuple[str, str | bytes | None]] = []
    for line in text.splitlines():
        if line.strip():
            name, colon, value = line.partition(":")
            if not colon:
                raise BadRequest(gettext_noop("The header %(line)r has no colon: write name: value."), line=line[:40])
            pairs.append((name.strip(), value.strip()))
    return pairs


@guarded()
def produce(request: HttpRequest, caller: Caller) -> HttpResponseBase:
    """The form; a POST sends and shows where the brokers have put each message."""
    access.require(caller, PRODUCE)
    form = ProduceForm(
        request.POST if request.method == "POST" else None,
        initial={"topic": request.GET.get("topic", tk_settings.TOPIC), "repeat": 1},
    )
    context: dict[str, Any] = {"form": form, "most": MOST}
    status = 200
    if request.method == "POST":
        if form.is_valid():
            try:
                outcomes = _send(form.record(), form.cleaned_data["repeat"], caller)
            except TkError as error:
                context["error"], status = error, error.status
            else:
                context["is_consumed"] = is_consumed(form.cleaned_data["topic"])
                context["receipts"] = [outcome for outcome in outcomes if isinstance(outcome, Receipt)]
                context["failed"] = [outcome for outcome in outcomes if isinstance(outcome, TkError)]
        else:
            status = 400
    return render(request, "tkcons/produce.html", context, status=status)


def _send(record: Record, count: int, caller: Caller) -> list[Receipt | TkError]:
    """Send the record so often; what became of each. Raises what kept all of them out."""
    access.require(caller, PRODUCE, record.topic)
    outcomes = api.produce_many(repeat(record, count))
    if isinstance(outcomes[0], TkError) and not any(isinstance(outcome, Receipt) for outcome in outcomes):
        raise outcomes[0]
    return outcomes
