"""The admin on big tables of PostgreSQL: how many rows each list reads, by the database's own account."""

import json
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.db import connections
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from tk.bigtable import first_key
from tk.models import OutboxEvent
from tkcons.models import Message, Position

pytestmark = [pytest.mark.postgres, pytest.mark.django_db(databases=["default", "postgres"])]

ROWS = 100_000
FEW = 6_000  # the newest thousand, for a count that ends there and for the page, and what bisection looks at


class ToPostgres:
    """A router that has the apps' tables in the second database."""

    def db_for_read(self, model: Any, **hints: Any) -> str | None:
        return "postgres" if model._meta.app_label in {"tk", "tkcons"} else None

    db_for_write = db_for_read


@pytest.fixture(scope="module")
def filled(postgres_alias, django_db_blocker) -> Iterator[None]:
    """Messages of two hours ago in three partitions, the newest few of now; letters of which few wait."""
    fields = {"group": "tkcons.database", "partition": 3, "start_offset": 0, "next_offset": ROWS}
    with django_db_blocker.unblock(), connections["postgres"].cursor() as cursor:
        rare, old, position = (
            Position.objects.using("postgres").create(topic=topic, topic_id=topic, **fields)
            for topic in ("rare", "old", "orders")
        )
        cursor.execute(
            'INSERT INTO tkcons_message (position_id, "offset", timestamp_type, value, stored_at) '
            "SELECT CASE WHEN n < 50 THEN %s WHEN n < 30000 THEN %s ELSE %s END, n, 0, 'x', "
            "CASE WHEN n < %s THEN now() - interval '2 hours' ELSE now() END FROM generate_series(1, %s) n",
            [rare.pk, old.pk, position.pk, ROWS - 5, ROWS],
        )
        cursor.execute(
            'INSERT INTO tkcons_deadletter (id, "group", topic, topic_id, partition, "offset", cause, traceback, tries, '
            "dead_topic, state, attempt, made_at, changed_at, changed_by) SELECT lpad(n::text, 32, '0'), "
            "CASE WHEN n < 50 THEN 'tkcons.database' ELSE 'other' END, 'orders', 'i', 0, n, 'E', '', 1, '', "
            "CASE WHEN n < 9 THEN 'waiting' ELSE 'discarded' END, 0, now() - n * interval '1 second', now(), '' "
            "FROM generate_series(1, %s) n",
            [ROWS],
        )
        cursor.execute(
            "INSERT INTO tk_outboxevent (event_id, lane, shard, state, topic, error, created_at, sent_at) "
            "SELECT gen_random_uuid(), n, n %% 64, CASE WHEN n < 9 THEN 2 WHEN n < 20 THEN 0 ELSE 1 END, "
            "CASE WHEN n %% 2 = 0 THEN 'even' ELSE 'odd' END, '', "
            "now() - make_interval(hours => CASE WHEN n < %s THEN 2 ELSE 0 END), now() FROM generate_series(1, %s) n",
            [ROWS - 5, ROWS],
        )
        cursor.execute("ANALYZE tk_outboxevent")
        cursor.execute("ANALYZE tkcons_message")
        cursor.execute("ANALYZE tkcons_deadletter")
        yield
        cursor.execute("TRUNCATE tk_outboxevent, tkcons_message, tkcons_deadletter, tkcons_position CASCADE")


@pytest.fixture
def big(filled, settings) -> None:
    settings.DATABASE_ROUTERS = [ToPostgres()]


def rows_read(node: dict[str, Any]) -> int:
    """What the scans of a plan have looked at."""
    below = sum(rows_read(child) for child in node.get("Plans", []))
    seen = node["Actual Rows"] + node.get("Rows Removed by Filter", 0) + node.get("Rows Removed by Index Recheck", 0)
    return below + (int(seen * node["Actual Loops"]) if "Scan" in node["Node Type"] else 0)


@pytest.mark.parametrize(
    ("address", "found"),
    [
        ("tkcons/message/", 100),
        ("tkcons/message/?p=9", 100),
        ("tkcons/message/?o=6", 100),  # sorting by time is not offered: asking for it changes nothing
        ("tkcons/message/?since=hour", 6),
        ("tkcons/message/?since=day", 100),
        ("tkcons/message/?place={rare}", 49),
        ("tkcons/message/?place={old}", 100),
        ("tkcons/message/?q=old[3]", 100),
        ("tkcons/message/?q=orders[3]", 100),
        ("tkcons/message/?q=orders[3]@77777", 1),
        ("tkcons/message/?q=77", 1),
        ("tkcons/message/?q=no+such+thing", 0),
        ("tkcons/deadletter/", 100),
        ("tkcons/deadletter/?o=7", 100),
        ("tkcons/deadletter/?state=waiting", 8),
        ("tkcons/deadletter/?group=tkcons.database", 49),
        ("tkcons/deadletter/?state=waiting&group=tkcons.database&since=day", 8),
        ("tkcons/deadletter/?since=hour", 100),
        ("tkcons/position/", 3),
        ("tk/outboxevent/", 100),
        ("tk/outboxevent/?o=5", 100),
        ("tk/outboxevent/?since=hour", 6),
        ("tk/outboxevent/?since=day", 100),
        ("tk/outboxevent/?state=0", 11),
        ("tk/outboxevent/?state=1&since=hour", 6),
        ("tk/outboxevent/?state=2", 8),
        ("tk/outboxevent/?state=2&since=hour", 0),
        ("tk/outboxevent/?q=odd", 100),
        ("tk/outboxevent/?q=nowhere", 0),
    ],
)
def test_a_list_opens_without_reading_the_table(big, admin_client, monkeypatch, address, found):
    monkeypatch.setattr("tk.admin.SEARCHED", 2_000)
    first = Message.objects.using("postgres").order_by("pk").values_list("pk", flat=True)[0]
    places = dict(Position.objects.using("postgres").values_list("topic", "pk"))
    address = address.format(**places).replace("q=77", f"q={first + 77}") if "@" not in address else address
    with CaptureQueriesContext(connections["postgres"]) as captured:
        page = admin_client.get(f"/admin/{address}")
    assert page.status_code == 200
    assert len(page.context["cl"].result_list) == found
    total = 0
    with connections["postgres"].cursor() as cursor:
        for query in captured:
            if query["sql"].startswith("SELECT"):
                assert "COUNT(" not in query["sql"] or "position" in address
                cursor.execute(f"EXPLAIN (ANALYZE, FORMAT JSON) {query['sql']}")
                (plan,) = cursor.fetchone()
                total += rows_read((plan if isinstance(plan, list) else json.loads(plan))[0]["Plan"])
    assert total <= FEW


def test_an_address_asks_for_nothing_but_the_filters(big, admin_client):
    for lookup in ("message/?value__contains=x", "message/?stored_at__lt=2020-01-01", "deadletter/?cause__icontains=E"):
        page = admin_client.get(f"/admin/tkcons/{lookup}")
        assert page.status_code in {302, 400}, lookup


def test_the_keys_of_a_time(big, monkeypatch):
    from tkcons.viewer import store

    monkeypatch.setattr(store, "NEAR", 1)
    rows, now = Message.objects.using("postgres"), timezone.now()

    def since(ago: timedelta) -> int:
        return rows.filter(pk__gte=store.keys(now - ago, None, "postgres").low).count()

    def until(ago: timedelta) -> int:
        return rows.filter(pk__lt=store.keys(None, now - ago, "postgres").high).count()

    hour, day = timedelta(hours=1), timedelta(days=1)
    assert (since(hour), since(day), since(-day)) == (
        6 + 1,
        ROWS,
        1,
    )  # a row beside, where none or not all are of the time
    assert (until(hour), until(day), until(-day)) == (ROWS - 6, 0, ROWS)


def test_the_first_key_since_a_time(big):
    rows = OutboxEvent.objects.using("postgres")
    newest = first_key(rows.all(), "created_at", timezone.now() - timedelta(hours=1))
    assert rows.filter(pk__gte=newest).count() == 6
    assert rows.filter(pk__gte=first_key(rows.all(), "created_at", timezone.now() - timedelta(days=1))).count() == ROWS
    assert rows.filter(pk__gte=first_key(rows.all(), "created_at", timezone.now() + timedelta(days=1))).count() == 0
    assert first_key(rows.none(), "created_at", timezone.now()) == 0
