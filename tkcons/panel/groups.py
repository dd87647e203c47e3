"""Groups: how they are, what is wanted of them, where they stand, and moving them."""

import logging
from datetime import datetime
from typing import Any
from urllib.parse import urlencode

from django import forms
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.http.response import HttpResponseBase
from django.shortcuts import render
from django.urls import reverse
from django.utils import timezone
from django.utils.translation import gettext, gettext_noop, pgettext, pgettext_lazy
from django.utils.translation import gettext_lazy as _

from tk import access, clusters, trail
from tk.access import Caller
from tk.errors import BadRequest, NotSent, TkError
from tkcons import deadletters, expired, groups, samples, seeking, web
from tkcons.errors import TkconsError
from tkcons.guard import guarded
from tkcons.models import DeadLetter, Group, Position
from tkcons.panel.chart import draw
from tkcons.panel.confirm import ask
from tkcons.seeking import Target
from tkcons.zoned import ZonedForm

logger = logging.getLogger(__name__)

# What a process tells of itself, in words and colours.
STATES = {
    "running": (_("running"), "good"),
    "paused": (_("paused"), "warn"),
    "waiting": (_("standby"), "warn"),
    "failed": (_("failed"), "bad"),
    "starting": (_("starting"), ""),
    "stopped": (_("stopped"), ""),
    "alone": (_("no process"), "bad"),
}
DONE = {
    Group.State.RUNNING: "Started consumer",
    Group.State.PAUSED: "Paused consumer",
    Group.State.STOPPED: "Stopped consumer",
}


def overview(request: HttpRequest, said: str = "") -> HttpResponse:
    """The panel: every group as a card. said: the contract's answer, which is the page's first line."""
    return render(request, "tkcons/panel.html", {"said": said, "groups": _looks(groups.status())})


@guarded()
def group(request: HttpRequest, caller: Caller) -> HttpResponseBase:
    """One group, ?name=. A POST sets its desired state and comes back."""
    access.require(caller, groups.CONTROL)
    name = groups.spec(request.GET.get("name", "")).name
    if request.method == "POST":
        steer(request.POST.get("state", ""), caller, [name])
        back = reverse("tkcons:status") if "panel" in request.POST else _address("tkcons:group", name)
        return HttpResponseRedirect(back)
    return _page(request, caller, name)


def _page(request: HttpRequest, caller: Caller, name: str, form: "MoveForm | None" = None) -> HttpResponse:
    """The group's page; with a form that is not valid the answer to it."""
    (look,) = _looks([status for status in groups.status() if status["group"] == name])
    context = {
        "group": look,
        "rows": _rows(look),
        "letters": _letters(caller, name),
        "form": MoveForm(initial={"to": "earliest"}, topics=look["topics"]) if form is None else form,
        "entries": trail.recent(Group(name=name)),
    }
    return render(request, "tkcons/group.html", context, status=200 if form is None else 400)


def steer(state: str, caller: Caller, names: list[str] | None = None) -> str:
    """Set the desired state (None: of all groups), and have this process take up what nobody runs; gives the answer."""
    if state not in Group.State.values:
        raise BadRequest(
            gettext_noop("There is no state %(state)r; there are: %(known)s."),
            state=state[:20],
            known=", ".join(Group.State.values),
        )
    wanted = Group.State(state)
    groups.want(wanted, caller, names)
    if wanted != Group.State.STOPPED:
        web.ensure_started()
    logger.info("wanted", extra={"action": "steer", "state": state, "groups": names, "caller": caller.name})
    return DONE[wanted]


class MoveForm(ZonedForm):
    """Where to put a group. `target` is what tkcons.seeking.move takes."""

    to = forms.ChoiceField(
        label=pgettext_lazy("where a group is moved", "To"),
        choices=[
            ("earliest", _("the beginning")),
            ("latest", _("the end")),
            ("offset", _("an offset")),
            ("time", _("a time")),
        ],
    )
    offset = forms.IntegerField(label=_("Offset"), min_value=0, max_value=2**63 - 1, required=False)
    time = forms.DateTimeField(
        label=_("Time"),
        required=False,
        widget=forms.DateTimeInput({"type": "datetime-local", "step": 1}, format="%Y-%m-%dT%H:%M:%S"),
    )
    topic = forms.ChoiceField(label=_("Topic"), required=False)
    partition = forms.IntegerField(label=_("Partition"), min_value=0, max_value=2**31 - 1, required=False)

    def __init__(self, *args: Any, topics: list[str], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["topic"].choices = [("", _("all")), *((name, name) for name in topics)]  # type: ignore[attr-defined]

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or {}
        for field in ("offset", "time"):
            if cleaned.get("to") == field and cleaned.get(field) is None and field not in self.errors:
                self.add_error(field, _("Say which."))
        return cleaned

    @property
    def target(self) -> Target:
        to: str = self.cleaned_data["to"]
        if to == "time":
            time: datetime = self.cleaned_data["time"]
            return time
        return int(self.cleaned_data["offset"]) if to == "offset" else to

    def told(self) -> str:
        """The target in words."""
        data = self.cleaned_data
        where = dict(self.fields["to"].choices)[data["to"]]  # type: ignore[attr-defined]
        if data["to"] == "time":
            return f"{data['time']:%Y-%m-%d %H:%M:%S} {data['time'].tzinfo}"
        return f"{where} {data['offset']}" if data["to"] == "offset" else str(where)


@guarded()
def move(request: HttpRequest, caller: Caller) -> HttpResponseBase:
    """Ask whether the group shall be moved; a POST moves it and shows from where to where."""
    access.require(caller, groups.CONTROL)
    spec = groups.spec(request.GET.get("name", ""))
    form = MoveForm(request.POST if request.method == "POST" else request.GET, topics=list(spec.topics))
    back = _address("tkcons:group", spec.name)
    if not form.is_valid():
        return _page(request, caller, spec.name, form)
    if request.method == "POST":
        data = form.cleaned_data
        try:
            moved = seeking.move(
                spec.name, form.target, caller, topic=data["topic"] or None, partition=data["partition"]
            )
        except (TkError, TkconsError) as error:
            return _ask_to_move(request, spec.name, form, error)
        return render(request, "tkcons/moved.html", {"name": spec.name, "moved": moved, "back": back})
    return _ask_to_move(request, spec.name, form)


def _ask_to_move(
    request: HttpRequest, name: str, form: MoveForm, error: TkError | TkconsError | None = None
) -> HttpResponse:
    data = form.cleaned_data
    only = data["topic"] or gettext("all topics")
    if data["partition"] is not None:
        only = f"{only} [{data['partition']}]"
    return ask(
        request,
        title=gettext("Move %(group)s to %(place)s?") % {"group": name, "place": form.told()},
        facts=[
            (gettext("Group"), name),
            (gettext("Topic"), only),
            (pgettext("where a group is moved", "To"), form.told()),
        ],
        texts=[
            gettext(
                "Going back, the database sink takes out what it has stored from there on and stores it again, and a "
                "handler is called again. Going on, what lies between is left out and noted as skipped."
            )
        ],
        action=_address("tkcons:move", name),
        back=_address("tkcons:group", name),
        button=gettext("Move"),
        fields={key: str(value) for key, value in form.data.items() if key in form.fields},
        error=error,
    )


@guarded()
def skip(request: HttpRequest, caller: Caller) -> HttpResponseBase:
    """Ask whether the group shall go on past what Kafka deleted unread; a POST does it and shows what is lost."""
    access.require(caller, groups.CONTROL)
    name = groups.spec(request.GET.get("name", "")).name
    back = _address("tkcons:group", name)
    error: TkError | TkconsError | None = None
    if request.method == "POST":
        try:
            lost = expired.skip(name, caller)
        except (TkError, TkconsError) as raised:
            error = raised
        else:
            return render(request, "tkcons/moved.html", {"name": name, "moved": lost, "lost": True, "back": back})
    return ask(
        request,
        title=gettext("Go on past expired messages of %(group)s?") % {"group": name},
        texts=[gettext("What Kafka deleted before it was read is lost. The next page says which offsets these were.")],
        action=_address("tkcons:skip", name),
        back=back,
        button=gettext("Go on without them"),
        error=error,
    )


def _address(view: str, name: str) -> str:
    return f"{reverse(view)}?{urlencode({'name': name})}"


def _looks(statuses: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Groups as the templates want them: with a state in words, ages, numbers a second and charts."""
    history = samples.history([status["group"] for status in statuses])
    return [_look(status, history[status["group"]]) for status in statuses]


def _look(status: dict[str, Any], points: list[samples.Point]) -> dict[str, Any]:
    now = timezone.now()
    members = [
        member
        | {"age": max(0, round((now - datetime.fromisoformat(member["seen_at"])).total_seconds()))}
        | {"look": STATES.get(member["state"], (member["state"], ""))}
        for member in status["members"]
    ]
    changed = status["changed_at"]
    return status | {
        "members": members,
        "changed_at": datetime.fromisoformat(changed) if changed else None,
        "look": STATES[_state(status)],
        "wanted": Group.State(status["desired"]).label,
        "address": _address("tkcons:group", status["group"]),
        "lag_chart": draw([point.lag for point in points]),
        "rate_chart": draw([point.rate for point in points]),
        "errors": [member["error"] for member in status["members"] if member["error"]],
    }


def _state(status: dict[str, Any]) -> str:
    """The group's state: the most telling one of its members', and whether it has any where it should."""
    states = {member["state"] for member in status["members"]}
    for state in ("failed", "running", "paused", "waiting", "starting"):
        if state in states:
            return state
    return "stopped" if status["desired"] == Group.State.STOPPED or states else "alone"


def _rows(look: dict[str, Any]) -> list[dict[str, Any]]:
    """The partitions: as the members tell, or where none runs, as they are stored, with their ends as Kafka tells."""
    rows = [row | {"member": member["name"]} for member in look["members"] for row in member["partitions"]]
    if rows:
        return sorted(rows, key=lambda row: (row["topic"], row["partition"]))
    ends: dict[tuple[str, str, int], int | None] = {}
    try:
        found = clusters.describe(look["topics"])
    except NotSent:
        found = []
    for topic in found:
        ends |= {(topic.name, topic.id, partition.number): partition.high for partition in topic.partitions}
    stored = Position.objects.filter(group=look["group"], topic__in=look["topics"]).order_by("topic", "partition")
    rows = []
    for position in stored:
        end = ends.get((position.topic, position.topic_id, position.partition))
        lag = None if end is None else max(0, end - position.next_offset)
        where = {"topic": position.topic, "partition": position.partition, "position": position.next_offset}
        if found and end is None:
            continue  # of a topic that was made again under its name
        rows.append(where | {"end": end, "lag": lag, "member": ""})
    return rows


def _letters(caller: Caller, name: str) -> str:
    """How many dead letters of the group wait, at most counted to a hundred; empty where the caller may not know."""
    if not caller.may("tkcons.view_deadletter"):
        return ""
    waiting = deadletters.waiting(caller).filter(group=name, state=DeadLetter.State.WAITING)
    count = len(waiting.order_by()[:101].values_list("pk"))
    return "100+" if count > 100 else str(count)
