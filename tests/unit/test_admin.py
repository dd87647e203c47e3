"""The admin on a big table: what it asks the database, and that payloads are inert."""

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Permission
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from tkcons.models import Group, Member, Message, Position

pytestmark = pytest.mark.django_db

HOSTILE = b"</td><script>alert(1)</script>"


@pytest.fixture
def messages() -> list[Message]:
    position = Position.objects.create(
        group="g", topic="orders", topic_id="i", partition=0, start_offset=0, next_offset=150
    )
    rows = [
        Message(position=position, offset=offset, value=HOSTILE, key=b"\xff", stored_at=timezone.now())
        for offset in range(150)  # more than a page
    ]
    return Message.objects.bulk_create(rows)


@pytest.mark.parametrize("name", ["message", "position", "group", "member"])
def test_every_list_opens(admin_client, messages, name):
    group = Group.objects.create(name="g")
    now = timezone.now()
    Member.objects.create(group=group, name="m", host="h", pid=1, state="running", started_at=now, seen_at=now)
    page = admin_client.get(reverse(f"admin:tkcons_{name}_changelist"))
    assert page.status_code == 200
    assert b"<script>alert" not in page.content


def test_a_message_is_shown_inert_and_cannot_be_changed(admin_client, messages):
    url = reverse("admin:tkcons_message_change", args=[messages[0].pk])
    page = admin_client.get(url)
    assert b"&lt;script&gt;alert(1)" in page.content
    assert b"<script>alert" not in page.content
    assert admin_client.post(url, {"offset": 9}).status_code == 403


def test_the_list_of_messages_neither_counts_nor_scans(admin_client, messages):
    with CaptureQueriesContext(
        connection,
    ) as captured:
        admin_client.get(reverse("admin:tkcons_message_changelist"))
    asked = [query["sql"] for query in captured if 'FROM "tkcons_message"' in query["sql"]]
    assert asked
    for sql in asked:
        assert "COUNT(" not in sql
        assert "LIMIT" in sql
        with connection.cursor() as cursor:
            cursor.execute(f"EXPLAIN QUERY PLAN {sql}")
            plan = " ".join(row[3] for row in cursor.fetchall())
        assert "USE TEMP B-TREE" not in plan, plan


def test_messages_need_their_permission(client, django_user_model, messages):
    staff = django_user_model.objects.create_user("staff", is_staff=True)
    client.force_login(staff)
    assert client.get(reverse("admin:tkcons_message_changelist")).status_code == 403


def test_a_group_is_steered_after_a_question_and_with_a_record(admin_client, settings):
    settings.TKCONS = {
        "SINKS": {"s": {"class": "tkcons.sinks.DatabaseSink", "topics": ["orders"], "group": "g"}},
        "RUN_IN_WEB": False,
    }
    Group.objects.create(name="g", desired="running")
    asked = {"action": "stop", "_selected_action": ["g"]}
    page = admin_client.post(reverse("admin:tkcons_group_changelist"), asked).content.decode()
    assert "These groups will be wanted: stopped" in page
    assert Group.objects.get().desired == "running"
    admin_client.post(reverse("admin:tkcons_group_changelist"), asked | {"sure": "1"})
    assert (Group.objects.get().desired, Group.objects.get().changed_by) == ("stopped", "admin")
    assert LogEntry.objects.get().change_message == "wanted stopped"


def test_steering_needs_its_permission(client, django_user_model):
    Group.objects.create(name="g", desired="running")
    staff = django_user_model.objects.create_user("staff", is_staff=True)
    staff.user_permissions.add(Permission.objects.get(codename="view_group", content_type__app_label="tkcons"))
    client.force_login(staff)
    client.post(reverse("admin:tkcons_group_changelist"), {"action": "stop", "_selected_action": ["g"], "sure": "1"})
    assert Group.objects.get().desired == "running"
