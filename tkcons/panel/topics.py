"""Topics: which there are, what is in them straight from Kafka, making and deleting them."""

from typing import Any
from urllib.parse import urlencode

from django import forms
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.http.response import HttpResponseBase
from django.shortcuts import render
from django.urls import reverse
from django.utils.translation import gettext, gettext_noop
from django.utils.translation import gettext_lazy as _

from tk import access, clusters, sizes
from tk.access import Caller
from tk.errors import BadRequest, TkError
from tk.sizes import Why
from tkcons import browse, groups, reader
from tkcons.guard import guarded
from tkcons.models import Position
from tkcons.panel.confirm import ask
from tkcons.panel.payload import payload
from tkcons.viewer.present import whole
from tkcons.viewer.views import download, is_consumed
from tkcons.zoned import ZonedForm

PAGE = 50  # topics on a page
LIMITS = [25, 50, 100, 200]
TIME = "%Y-%m-%dT%H:%M:%S"
WHY = {
    Why.NOT_INSTALLED: _("Sizes are not known: kafka-python is not installed (the extra “sizes”)."),
    Why.OPTION: _("Sizes are not known: KAFKA_CLIENT has an option that kafka-python does not know; the log names it."),
    Why.REFUSED: _("Not all sizes are known: the brokers tell them to those alone who may DESCRIBE the cluster."),
    Why.NO_ANSWER: _("Not all sizes are known: a broker does not answer."),
}


@guarded()
def topics(request: HttpRequest, caller: Caller) -> HttpResponseBase:
    """The topics that the caller may see, by name; ?q= a part of the name, ?after= the last one of the page before."""
    text, after = request.GET.get("q", ""), request.GET.get("after", "")
    names = [name for name in browse.listed(caller, text) if name > after]
    shown = names[:PAGE]
    found, why = sizes.measure(browse.described(shown, caller))
    context = {
        "topics": found,
        "why": why and WHY[why],
        "text": text,
        "next": urlencode({"q": text, "after": shown[-1]}) if len(names) > PAGE else "",
        "first": not after,
    }
    return render(request, "tkcons/topics.html", context)


@guarded()
def topic(request: HttpRequest, caller: Caller, name: str) -> HttpResponseBase:
    """One topic: partitions, offsets, sizes, configuration, and which of this installation's groups read it."""
    described, options = browse.one(name, caller)
    (found,), why = sizes.measure([described])
    readers = [spec.name for spec in groups.specs().values() if name in spec.topics]
    stands = Position.objects.filter(group__in=readers, topic_id=found.id).order_by("group", "partition")
    context = {
        "topic": found,
        "why": why and WHY[why],
        "own": [option for option in options if option.own],
        "options": [option for option in options if not option.own],
        "readers": readers,
        "stands": stands,
        "form": LookForm(),
    }
    return render(request, "tkcons/topic.html", context)


class LookForm(ZonedForm):
    """Where to look into a partition. Empty: at its newest messages."""

    partition = forms.IntegerField(label=_("Partition"), min_value=0, max_value=2**31 - 1, required=False)
    offset = forms.IntegerField(label=_("From offset"), min_value=0, max_value=2**63 - 1, required=False)
    time = forms.DateTimeField(
        label=_("or from time"),
        required=False,
        widget=forms.DateTimeInput({"type": "datetime-local", "step": 1}, format=TIME),
    )
    before = forms.IntegerField(min_value=0, max_value=2**63 - 1, required=False, widget=forms.HiddenInput)
    limit = forms.TypedChoiceField(label=_("Messages"), choices=[(n, n) for n in LIMITS], coerce=int, required=False)

    def where(self) -> dict[str, Any]:
        """For tkcons.browse.look."""
        data = self.cleaned_data
        return {
            "offset": data["offset"],
            "at": None if data["offset"] is not None else data["time"],
            "before": data["before"],
            "limit": data["limit"] or 50,
        }


@guarded()
def look(request: HttpRequest, caller: Caller, name: str) -> HttpResponseBase:
    """Messages of one partition, straight from Kafka."""
    access.require(caller, reader.VIEW)
    form = LookForm({"partition": "0", "limit": "50"} | request.GET.dict())
    context: dict[str, Any] = {"name": name, "form": form}
    if not form.is_valid():
        return render(request, "tkcons/look.html", context, status=400)
    number = form.cleaned_data["partition"] or 0
    try:
        seen = browse.look(caller, name, number, **form.where())
    except TkError as error:
        return render(request, "tkcons/look.html", context | {"error": error}, status=error.status)
    kept = {"partition": number, "limit": form.cleaned_data["limit"] or 50}
    context |= {
        "look": seen,
        "rows": [(message, payload(message)) for message in seen.messages],
        "older": urlencode(kept | {"before": seen.before}) if seen.before is not None else "",
        "newer": urlencode(kept | {"offset": seen.after}) if seen.after is not None else "",
        "newest": urlencode(kept),
    }
    return render(request, "tkcons/look.html", context)


@guarded()
def peek(request: HttpRequest, caller: Caller, name: str, partition: str, offset: str) -> HttpResponseBase:
    """One message, whole, straight from Kafka."""
    number = int(offset)
    seen = browse.look(caller, name, int(partition), offset=number, limit=1)
    message = seen.messages[0] if seen.messages and seen.messages[0].offset == number else None
    if message is not None and "download" in request.GET:
        return download(message.value, f"{name}-{partition}-{offset}")
    context = {
        "name": name,
        "partition": partition,
        "offset": number,
        "message": message,
        "is_consumed": is_consumed(name),
        "whole": whole(message, everything="all" in request.GET) if message is not None else None,
    }
    return render(request, "tkcons/peek.html", context, status=200 if message is not None else 404)


class TopicForm(forms.Form):
    """A new topic. What is left empty is as the brokers' defaults say."""

    name = forms.CharField(label=_("Name"), max_length=249, strip=True)
    partitions = forms.IntegerField(
        label=_("Partitions"), min_value=1, max_value=clusters.MAX_PARTITIONS, required=False
    )
    replication = forms.IntegerField(label=_("Replication"), min_value=1, max_value=2**15 - 1, required=False)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        for name in clusters.CONFIG:
            field = forms.CharField(label=name, required=False, max_length=100)
            self.fields[name] = field
        self.fields["cleanup.policy"].widget = forms.Select(
            choices=[("", "—"), *((policy, policy) for policy in ("delete", "compact", "compact,delete"))]
        )


@guarded()
def create(request: HttpRequest, caller: Caller) -> HttpResponseBase:
    """A form for a new topic; a POST makes it and leads to its page."""
    access.require(caller, clusters.MANAGE)
    form = TopicForm(request.POST if request.method == "POST" else None)
    error: TkError | None = None
    if request.method == "POST" and form.is_valid():
        data = form.cleaned_data
        try:
            made = clusters.create(
                data["name"],
                caller,
                partitions=data["partitions"] or -1,
                replication=data["replication"] or -1,
                config={name: data[name] for name in clusters.CONFIG},
            )
        except TkError as raised:
            error = raised
        else:
            return HttpResponseRedirect(reverse("tkcons:topic", args=[made.name]))
    status = error.status if error is not None else (400 if form.errors else 200)
    return render(request, "tkcons/new_topic.html", {"form": form, "error": error}, status=status)


class NameDiffers(BadRequest):
    text = gettext_noop("The name that was typed is not the topic's: nothing was deleted.")
    code = "name_differs"


@guarded()
def delete(request: HttpRequest, caller: Caller, name: str) -> HttpResponseBase:
    """Ask for the topic's name; a POST with it deletes the topic."""
    clusters.require_topic(caller, clusters.MANAGE, name)
    if request.method == "POST":
        try:
            if request.POST.get("typed", "").strip() != name:
                raise NameDiffers
            clusters.delete(name, caller)
        except TkError as error:
            return _ask_to_delete(request, name, error)
        return HttpResponseRedirect(reverse("tkcons:topics"))
    return _ask_to_delete(request, name)


def _ask_to_delete(request: HttpRequest, name: str, error: TkError | None = None) -> HttpResponse:
    readers = [spec.name for spec in groups.specs().values() if name in spec.topics]
    return ask(
        request,
        title=gettext("Delete the topic %(name)s?") % {"name": name},
        texts=[gettext("Every message in it is lost for all who read it. This cannot be taken back.")],
        facts=[(gettext("Read by"), ", ".join(readers))] if readers else [],
        action=reverse("tkcons:delete_topic", args=[name]),
        back=reverse("tkcons:topic", args=[name]),
        button=gettext("Delete the topic"),
        typed=name,
        error=error,
    )
