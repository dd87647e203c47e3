"""The plans of what pages, engine, audit and retention ask, on tables of some size: each is served by an index."""

import re
from contextlib import contextmanager
from datetime import timedelta

import pytest
from confluent_kafka import Message as Kafkas
from django.db import connections
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from tk.access import CODE
from tk.record import EVENT_ID_HEADER
from tkcons import deadletters, positions, retention
from tkcons.models import DeadLetter, Message, SeenEvent
from tkcons.sinks import DatabaseSink
from tkcons.sinks.base import Batch, Claim, Place
from tkcons.viewer import search
from tkcons.viewer.query import Query

pytestmark = [
    pytest.mark.usefixtures("postgres_alias"),
    pytest.mark.django_db(transaction=True, databases=["default", "postgres"]),
]

PLACES = [Place("orders", "id-1", number) for number in range(4)]
ROWS = 5_000  # of each partition
READ_WHOLE = re.compile(  # but for a day's partition that is empty
    r"Seq Scan on tkcons_(?:message|seenevent|deadletter|gap)\w* (?:\w+ )? ?\(cost=[\d.]+\.\.(?!0\.0[01] )"
    r"|SCAN tkcons_(?:message|seenevent|deadletter)(?! USING)"
)


def records(place: Place, first: int, count: int) -> list[Kafkas]:
    return [
        Kafkas(topic=place.topic, partition=place.partition, offset=n, value=b"v", timestamp=(1, n), headers=[event(n)])
        for n in range(first, first + count)
    ]


def event(number: int) -> tuple[str, bytes]:
    return EVENT_ID_HEADER, b"event-%d" % number


@pytest.fixture(params=["default", "postgres"])
def filled(request):
    """A sink on a database with 20,000 messages, 5,000 events and 2,000 dead letters, and its next claims."""
    using = request.param
    sink = DatabaseSink("group", using=using)
    sink.begin(dict.fromkeys(PLACES, 0))
    sink.tick()
    claims = sink.claim(PLACES)
    for place in PLACES:
        messages = records(place, 0, ROWS)
        if place.partition:  # the events of one partition are enough
            messages = [Kafkas(topic="orders", partition=place.partition, offset=n, value=b"v") for n in range(ROWS)]
        sink.write([Batch(place, claims[place], messages, ROWS)])
    (message,) = records(PLACES[0], 0, 1)
    letters = [deadletters.make("group", PLACES[0], message, ValueError(), 1) for _ in range(2_000)]
    for number, letter in enumerate(letters):
        letter.pk = f"{number:032x}"
        letter.state = DeadLetter.State.RESENT if number % 10 else DeadLetter.State.WAITING
    DeadLetter.objects.using(using).bulk_create(letters)
    with connections[using].cursor() as cursor:
        cursor.execute("ANALYZE")
    return using, sink, {place: Claim(claims[place].generation, ROWS) for place in PLACES}


@contextmanager
def planned(using: str):
    """Explain every statement that is asked meanwhile; gives the list of plans, full at the end."""
    plans: list[str] = []
    with CaptureQueriesContext(connections[using]) as captured:
        yield plans
    explain = "EXPLAIN QUERY PLAN " if connections[using].vendor == "sqlite" else "EXPLAIN "
    with connections[using].cursor() as cursor:
        for sql in [query["sql"] for query in captured.captured_queries]:
            if sql.strip().startswith(("SELECT", "UPDATE", "DELETE", "WITH")):
                cursor.execute(explain + sql.replace("%", "%%"), ())
                plans.append(f"{sql[:1_500]}\n  " + "\n  ".join(str(row[-1]) for row in cursor.fetchall()))


def served_by_indexes(plans: list[str], least: int) -> None:
    assert len(plans) >= least
    assert [plan for plan in plans if READ_WHOLE.search(plan)] == []


DAY = timedelta(days=1)
LOOKED_FOR = [
    {},
    {"topic": "orders"},
    {"topic": "orders", "partition": 1},
    {"topic": "orders", "partition": 1, "offset": 4_000},
    {"since": -DAY, "until": DAY},
    {"topic": "orders", "since": -DAY},
    {"topic": "orders", "partition": 1, "since": -DAY, "until": DAY},
    {"key": "no such key"},
    {"topic": "orders", "header": "event-id: none"},
    {"text": "no such text"},
]


def test_the_pages_of_messages(filled, monkeypatch):
    """The first page and the one after it, of everything that somebody can look for."""
    using, _, _ = filled
    monkeypatch.setattr("tkcons.viewer.store.using", lambda: using)
    for name in ("SLICE", "LONGEST_SLICE"):  # as small a part of this table as it is of a large one
        monkeypatch.setattr(f"tkcons.viewer.scan.{name}", 500)
    for query in LOOKED_FOR:
        asked = Query(**{name: timezone.now() + of if isinstance(of, timedelta) else of for name, of in query.items()})
        with planned(using) as plans:
            page = search.find(CODE, asked)
            if page.before:
                search.find(CODE, asked, page.before)
        # SQLite's walk backwards along the primary key is called a scan; it ends at the page's limit.
        served_by_indexes(
            [plan for plan in plans if not re.search(r" (?:ASC|DESC) LIMIT \d+\n  SCAN tkcons_message$", plan)], 1
        )
        is_sorted = [plan for plan in plans if "tkcons_message" in plan and "TEMP B-TREE" in plan]
        assert all(" AS newest" in plan for plan in is_sorted)  # a page of each partition


def test_storing_a_batch_and_finding_its_repeats(filled):
    using, sink, claims = filled
    place = PLACES[0]
    repeats = records(place, ROWS - 10, 20)  # ten of them are known
    moved = [
        Kafkas(topic="orders", partition=0, offset=ROWS + n, value=b"v", headers=each.headers())
        for n, each in enumerate(repeats)
    ]
    with planned(using) as plans:
        sink.write([Batch(place, claims[place], moved, ROWS + 20)])
    served_by_indexes(plans, 2)
    assert Message.objects.using(using).filter(offset__gte=ROWS).count() == 10


def test_the_audits_rows_in_the_order_of_offsets(filled):
    using, sink, _ = filled
    rows = Message.objects.using(using).filter(position_id=sink._keys[PLACES[1]], offset__gte=100, offset__lt=4_900)
    with planned(using) as plans:
        assert len(rows.order_by("offset").values_list("offset", flat=True)[:1_000]) == 1_000
    served_by_indexes(plans, 1)
    assert "TEMP B-TREE" not in plans[0]  # the index gives them in their order


def test_seeking_forgetting_and_pruning(filled):
    using, sink, claims = filled
    place = PLACES[0]
    SeenEvent.objects.using(using).filter(offset__lt=50).update(seen_at=timezone.now() - timedelta(days=30))
    with planned(using) as plans:
        positions.forget_events("group", using)
    served_by_indexes(plans, 2)
    with planned(using) as plans:
        positions.seek(place, claims[place], 4_990, sink._keys[place], using)
    served_by_indexes([plan for plan in plans if "tkcons_message" in plan], 1)
    with planned(using) as plans:
        assert retention.prune(timezone.now() - timedelta(days=1), using) == 0
    # A whole table is looked through for rows that are too old: on PostgreSQL the default partition alone.
    assert not re.search(r"Seq Scan on tkcons_message_\d", "\n".join(plans))


def test_the_letters_that_wait_and_those_to_be_handled_again(filled):
    using, _, _ = filled
    with planned(using) as plans:
        assert deadletters.take("group", 10, using) == []
        waiting = DeadLetter.objects.using(using).filter(group="group", state="waiting").order_by("-made_at")[:100]
        assert len(waiting) == 100
    served_by_indexes(plans, 2)
