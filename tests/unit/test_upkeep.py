"""The outbox for operators: the admin, `manage.py outbox`, the figures."""

import uuid
from io import StringIO

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Permission
from django.core.management import CommandError, call_command
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from prometheus_client import REGISTRY

from tk import metrics, upkeep
from tk.access import CODE, Caller
from tk.errors import Forbidden, UnknownEvent
from tk.models import OutboxEvent
from tk.outbox import publish_many
from tk.record import Record

pytestmark = pytest.mark.django_db

State = OutboxEvent.State
LIST = "admin:tk_outboxevent_changelist"
HOSTILE = b"</td><script>alert(1)</script>"


@pytest.fixture
def events() -> list[OutboxEvent]:
    """150 events, the first five of which have failed."""
    publish_many(Record(f"orders.{n % 3}", HOSTILE, b"k%d" % n) for n in range(150))
    found = list(OutboxEvent.objects.order_by("pk"))
    OutboxEvent.objects.filter(pk__lte=found[4].pk).update(state=State.FAILED, error="<b>too large</b>")
    return found


@pytest.fixture
def staff(client, django_user_model):
    """``staff("tk.view_outboxevent")``: a client of somebody with these permissions."""

    def log_in(*names: str):
        user = django_user_model.objects.create_user("staff", is_staff=True)
        user.user_permissions.set(Permission.objects.filter(codename__in=[n.partition(".")[2] for n in names]))
        client.force_login(user)
        return client

    return log_in


def test_the_list_neither_counts_nor_scans(admin_client, events):
    for query in (
        {},
        {"_facets": "True"},
        {"state": State.FAILED},
        {"state": "5) OR (1=1"},
        {"q": str(events[7].event_id)},
    ):
        with CaptureQueriesContext(connection) as captured:
            page = admin_client.get(reverse(LIST), query)
        assert page.status_code == 200
        assert b"<script>alert" not in page.content
        asked = [each["sql"] for each in captured if 'FROM "tk_outboxevent"' in each["sql"]]
        assert asked
        for sql in asked:
            assert "COUNT(" not in sql
            assert '"value"' not in sql
            with connection.cursor() as cursor:
                cursor.execute(f"EXPLAIN QUERY PLAN {sql}")
                plan = " ".join(row[3] for row in cursor.fetchall())
            if query.get("state") == State.FAILED:
                assert "tk_outbox_failed" in plan, plan
            else:
                assert "USE TEMP B-TREE" not in plan, plan


@pytest.mark.parametrize(("text", "found"), [("orders.1", 50), ("rders", 0), ("orders", 150)])
def test_a_topic_is_found_by_how_it_begins(admin_client, events, text, found):
    page = admin_client.get(reverse(LIST), {"q": text})
    assert page.context["cl"].result_count == found


def test_an_event_is_found_by_its_id(admin_client, events):
    page = admin_client.get(reverse(LIST), {"q": str(events[7].event_id)})
    assert [event.pk for event in page.context["cl"].result_list] == [events[7].pk]
    assert admin_client.get(reverse(LIST), {"q": str(uuid.uuid4())}).context["cl"].result_count == 0


def test_a_payload_is_shown_inert_and_cut_and_is_not_changed(admin_client, events):
    (event_id,) = publish_many([Record("orders", HOSTILE + b"x" * 20_000, b"\xff")])
    event = OutboxEvent.objects.get(event_id=event_id)
    url = reverse("admin:tk_outboxevent_change", args=[event.pk])
    page = admin_client.get(url).content
    assert b"&lt;script&gt;alert(1)" in page
    assert b"<script>alert" not in page
    assert b"x" * 9_000 in page
    assert b"x" * 10_000 not in page
    assert admin_client.post(url, {"topic": "other"}).status_code == 403
    assert admin_client.post(reverse("admin:tk_outboxevent_delete", args=[event.pk])).status_code == 403


def act(client, action, events, **more):
    chosen = [event.pk for event in events]
    return client.post(reverse(LIST), {"action": action, "_selected_action": chosen, **more})


def states(events):
    return list(
        OutboxEvent.objects.filter(pk__in=[e.pk for e in events]).order_by("pk").values_list("state", flat=True)
    )


def test_failed_events_are_resent_after_a_question_and_who_did_it_is_recorded(admin_client, events):
    assert b"Send these events again?" in act(admin_client, "resend", events[3:6]).content
    assert states(events[3:6]) == [State.FAILED, State.FAILED, State.PENDING]
    act(admin_client, "resend", events[3:6], sure="1")
    assert states(events[3:6]) == [State.PENDING] * 3
    assert OutboxEvent.objects.get(pk=events[3].pk).error == ""
    entries = LogEntry.objects.filter(change_message__startswith="resent")
    assert {entry.object_id for entry in entries} == {str(events[3].pk), str(events[4].pk)}  # the sixth had not failed


def test_discarding_asks_first(admin_client, events):
    page = act(admin_client, "discard", events[:2])
    assert b"&lt;b&gt;too large" in page.content
    assert states(events[:2]) == [State.FAILED] * 2
    act(admin_client, "discard", events[:2], sure="1")
    assert states(events[:2]) == [State.DISCARDED] * 2
    assert LogEntry.objects.filter(change_message__startswith="discarded").count() == 2


def test_where_nothing_has_failed_nothing_is_asked(admin_client, events):
    page = admin_client.post(
        reverse(LIST), {"action": "discard", "_selected_action": [events[7].pk]}, follow=True
    ).content
    assert b"None of the selected events has failed." in page


def test_looking_is_not_settling(staff, events):
    client = staff("tk.view_outboxevent")
    assert client.get(reverse(LIST)).status_code == 200
    act(client, "discard", events[:1], sure="1")
    act(client, "resend", events[1:2], sure="1")
    assert states(events[:2]) == [State.FAILED] * 2


def test_the_services_ask_for_the_permission(events, django_user_model):
    nobody = Caller("nobody", django_user_model.objects.create_user("nobody"))
    for change in (upkeep.resend, upkeep.discard):
        with pytest.raises(Forbidden):
            change([events[0].pk], nobody)
        with pytest.raises(UnknownEvent):
            change([events[9].pk], CODE)
    token = Caller("token t", None, frozenset([upkeep.SETTLE]), ("orders.0",))
    assert upkeep.resend([event.pk for event in events[:5]], token) == 2
    assert states(events[:5]) == [State.PENDING, State.FAILED, State.FAILED, State.PENDING, State.FAILED]


def said(*args: str) -> str:
    out = StringIO()
    call_command("outbox", *args, stdout=out)
    return out.getvalue()


def test_the_command(events):
    assert "waiting: 145, the oldest for " in said()
    assert "failed: 5\nno relay runs" in said("status")
    assert said("failed", "--topic", "orders.1").count("too large") == 2
    with pytest.raises(CommandError, match="--all"):
        said("discard")
    assert said("resend", str(events[0].event_id)) == "1 events: resend.\n"
    assert said("discard", "--all", "--topic", "orders.1") == "2 events: discard.\n"
    assert states(events[:5]) == [State.PENDING, State.DISCARDED, State.FAILED, State.FAILED, State.DISCARDED]
    with pytest.raises(CommandError, match="None of these"):
        said("resend", str(events[0].event_id))


def test_the_figures(events, monkeypatch):
    monkeypatch.setattr(metrics, "OUTBOX_SECONDS", 0.0)
    assert REGISTRY.get_sample_value("tk_outbox_waiting") == 145
    assert REGISTRY.get_sample_value("tk_outbox_failed") == 5
    assert REGISTRY.get_sample_value("tk_outbox_oldest_seconds") > 0
    monkeypatch.setattr(upkeep, "COUNTED", 100)
    assert REGISTRY.get_sample_value("tk_outbox_waiting") == 100
