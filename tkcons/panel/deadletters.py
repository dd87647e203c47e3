"""Dead letters: looked for, looked at, handled again, given up."""

from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlencode

from django import forms
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.http.response import HttpResponseBase
from django.shortcuts import render
from django.urls import reverse
from django.utils.translation import gettext, gettext_noop, ngettext
from django.utils.translation import gettext_lazy as _

from tk import access
from tk.access import Caller
from tk.errors import BadRequest
from tkcons import deadletters, groups, reader
from tkcons.errors import SearchTookTooLong
from tkcons.guard import guarded
from tkcons.models import DeadLetter
from tkcons.panel.confirm import ask
from tkcons.viewer.present import whole
from tkcons.viewer.views import download
from tkcons.zoned import ZonedForm

PAGE = 50


class FindForm(ZonedForm):
    """Which letters; empty fields match everything. Times are when the letter was made."""

    group = forms.CharField(label=_("Group"), max_length=249, required=False)
    topic = forms.CharField(label=_("Topic"), max_length=249, required=False)
    state = forms.ChoiceField(label=_("State"), required=False, choices=[("", _("all")), *DeadLetter.State.choices])
    since = forms.DateTimeField(
        label=_("Since"), required=False, widget=forms.DateTimeInput({"type": "datetime-local"}, "%Y-%m-%dT%H:%M")
    )
    until = forms.DateTimeField(
        label=_("Until"), required=False, widget=forms.DateTimeInput({"type": "datetime-local"}, "%Y-%m-%dT%H:%M")
    )
    q = forms.CharField(label=_("Text in cause, key or value"), max_length=200, required=False)
    before = forms.CharField(max_length=100, required=False, widget=forms.HiddenInput)

    def clean_before(self) -> tuple[datetime, str] | None:
        return _cursor(self.cleaned_data["before"])

    def wanted(self) -> dict[str, Any]:
        """For tkcons.deadletters.find."""
        return {name: value for name, value in self.cleaned_data.items() if name not in {"q", "zone"}} | {
            "text": self.cleaned_data["q"]
        }


def _cursor(text: str) -> tuple[datetime, str] | None:
    """Where a page ended: when its last letter was made, and its id."""
    if not text:
        return None
    made, _space, key = text.partition("_")
    try:
        at = datetime.fromisoformat(made)
        moment = at.astimezone(UTC)
    except (ValueError, OverflowError) as error:  # the latter: before the first year, or after the last
        raise forms.ValidationError(_("This is no page of this list.")) from error
    if at.tzinfo is None:
        raise forms.ValidationError(_("This is no page of this list."))
    return moment, key


@guarded()
def listed(request: HttpRequest, caller: Caller) -> HttpResponseBase:
    """The letters, newest first."""
    form = FindForm(request.GET)
    context: dict[str, Any] = {"form": form, "states": DeadLetter.State}
    if not form.is_valid():
        deadletters.find(caller, limit=0)  # who may not look hears that first
        return render(request, "tkcons/deadletters.html", context, status=400)
    try:
        letters = deadletters.find(caller, limit=PAGE + 1, **form.wanted())
    except SearchTookTooLong as error:
        return render(request, "tkcons/deadletters.html", context | {"error": error}, status=error.status)
    if len(letters) > PAGE:
        last = letters[PAGE - 1]
        given = {name: value for name, value in request.GET.items() if name in form.fields and value}
        context["older"] = urlencode(given | {"before": f"{last.made_at.isoformat()}_{last.pk}"})
    searched = any(value for name, value in request.GET.items() if name != "zone")
    context |= {"letters": letters[:PAGE], "groups": list(groups.specs()), "searched": searched}
    return render(request, "tkcons/deadletters.html", context)


@guarded()
def letter(request: HttpRequest, caller: Caller, key: str) -> HttpResponseBase:
    """One letter: what happened, and the message, if the caller may read messages."""
    found = deadletters.one(caller, key)
    if "download" in request.GET:
        access.require(caller, reader.VIEW)
        return download(found.value, f"{found.topic}-{found.partition}-{found.offset}")
    shown = whole(found, everything="all" in request.GET) if caller.may(reader.VIEW) else None
    waits = found.state in {DeadLetter.State.WAITING, DeadLetter.State.REQUESTED}
    return render(request, "tkcons/deadletter.html", {"letter": found, "whole": shown, "waits": waits})


@guarded(changes=True)
def settle(request: HttpRequest, caller: Caller) -> HttpResponseBase:
    """Ask whether the chosen letters (`id`, any number) shall be handled again or given up (`what`); then do it."""
    deadletters.require_settle(caller)
    keys, what = request.POST.getlist("id"), request.POST.get("what", "")
    if what not in {"resend", "discard"}:
        raise BadRequest(gettext_noop("Say what to do: resend or discard."))
    if not keys:
        raise BadRequest(gettext_noop("Choose the dead letters first."))
    if "sure" not in request.POST:
        return _ask(request, keys, what)
    (deadletters.resend if what == "resend" else deadletters.discard)(keys, caller)
    address = reverse("tkcons:deadletters")
    return HttpResponseRedirect(reverse("tkcons:deadletter", args=keys) if len(keys) == 1 else address)


def _ask(request: HttpRequest, keys: list[str], what: str) -> HttpResponse:
    count = len(keys)
    if what == "resend":
        title = ngettext("Handle %(count)d dead letter again?", "Handle %(count)d dead letters again?", count)
        text = gettext("Their group's own handler is called for each of them alone, when the group runs.")
    else:
        title = ngettext("Discard %(count)d dead letter?", "Discard %(count)d dead letters?", count)
        text = gettext("They stay in the list as discarded and are not handled again. Who did it is recorded.")
    return ask(
        request,
        title=title % {"count": count},
        texts=[text],
        facts=[(gettext("Id"), ", ".join(keys[:10]) + ("…" if count > 10 else ""))],
        action=reverse("tkcons:settle"),
        back=reverse("tkcons:deadletters"),
        button=gettext("Handle again") if what == "resend" else gettext("Discard"),
        fields={"id": keys, "what": what, "sure": "1"},
    )
