"""Pages by keyset: every message once, in order, however it is looked for; and each query on an index."""

import itertools
from datetime import UTC, datetime, timedelta

import pytest
from django.db import connection
from django.http import QueryDict
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from tests.storing import numbered, place, store
from tk.access import CODE, Caller
from tk.errors import Forbidden, Unauthenticated
from tkcons.viewer import cursor, scan, search
from tkcons.viewer import store as stores
from tkcons.viewer.cursor import BadCursor
from tkcons.viewer.query import BadQuery, Form, Query
from tkcons.viewer.rows import Found

pytestmark = pytest.mark.django_db

NOW = timezone.now().replace(microsecond=0)


def mixed() -> None:
    """Three partitions of two topics, stored in turns: a minute between two."""
    for number in range(60):
        at = NOW - timedelta(minutes=60 - number)
        topic, partition = ("orders", number % 2) if number % 3 else ("payments", 0)
        headers = (("kind", b"even" if number % 2 == 0 else b"odd"),)
        store(f"message {number}", topic=topic, partition=partition, key=f"k{number % 5}", headers=headers, at=at)


def pages(query: Query, limit: int = 7, caller: Caller = CODE) -> list[Found]:
    found, before = [], ""
    for _ in range(100):
        page = search.find(caller, query, before, limit)
        found += page.rows
        if page.before is None:
            return found
        before = page.before
    raise AssertionError("there is no end")


def numbers(rows: list[Found]) -> list[int]:
    return [int((row.value or b"").split()[-1]) for row in rows]


MINUTES = {ago: NOW - timedelta(minutes=ago) for ago in (20, 40)}
LOOKED_FOR = [
    (Query(), lambda n: True),
    (Query(topic="orders"), lambda n: n % 3),
    (Query(topic="orders", partition=1), lambda n: n % 3 and n % 2),
    (Query(partition=1), lambda n: n % 3 and n % 2),
    (Query(topic="payments"), lambda n: n % 3 == 0),
    (Query(key="k3"), lambda n: n % 5 == 3),
    (Query(topic="orders", key="k3"), lambda n: n % 3 and n % 5 == 3),
    (Query(header="kind"), lambda n: True),
    (Query(header="kind: odd"), lambda n: n % 2),
    (Query(header="kin"), lambda n: False),
    (Query(text="sage 1"), lambda n: n == 1 or 10 <= n < 20),
    (Query(text="MESSAGE"), lambda n: False),
    (Query(since=MINUTES[20]), lambda n: n >= 40),
    (Query(until=MINUTES[20]), lambda n: n < 40),
    (Query(topic="orders", since=MINUTES[40], until=MINUTES[20]), lambda n: n % 3 and 20 <= n < 40),
    (Query(text="7", until=MINUTES[20]), lambda n: "7" in str(n) and n < 40),
    (Query(topic="payments", offset=3), lambda n: n == 9),
    (Query(topic="nothing"), lambda n: False),
]


@pytest.mark.parametrize(("query", "wanted"), LOOKED_FOR)
def test_each_message_once_newest_first(monkeypatch, query, wanted):
    monkeypatch.setattr(scan, "SLICE", 4)
    monkeypatch.setattr(stores, "NEAR", 1)
    mixed()
    assert numbers(pages(query)) == [n for n in reversed(range(60)) if wanted(n)]


def test_a_topic_of_very_many_partitions_is_searched_through(monkeypatch):
    monkeypatch.setattr(search, "MERGED", 1)
    mixed()
    assert numbers(pages(Query(topic="orders"))) == [n for n in reversed(range(60)) if n % 3]


def test_new_messages_do_not_move_the_pages_that_follow():
    mixed()
    first = search.find(CODE, Query(topic="orders"), "", 10)
    store(*numbered(5, 100))
    second = search.find(CODE, Query(topic="orders"), first.before or "", 10)
    assert numbers(first.rows + second.rows) == [n for n in reversed(range(60)) if n % 3][:20]


def test_a_search_that_takes_too_long_says_how_far_it_came_and_goes_on(settings, monkeypatch):
    mixed()
    monkeypatch.setattr(scan, "SLICE", 5)
    monkeypatch.setattr(scan, "LONGEST_SLICE", 5)
    clock = itertools.count(0.0, 0.3)
    monkeypatch.setattr(scan.time, "monotonic", lambda: next(clock))
    page = search.find(CODE, Query(text="message 3"), "", 100)
    assert page.searched_to is not None
    assert page.before is not None
    assert len(page.rows) < 11
    assert numbers(pages(Query(text="message 3"))) == [*range(39, 29, -1), 3]


def test_nobody_sees_a_topic_that_the_token_does_not_name():
    mixed()
    token = Caller("t", scopes=frozenset({search.VIEW}), topics=("pay*",))
    assert {row.place.topic for row in pages(Query(), caller=token)} == {"payments"}
    assert pages(Query(topic="orders"), caller=token) == []
    for caller, error in ((Caller(""), Unauthenticated), (Caller("t", scopes=frozenset()), Forbidden)):
        with pytest.raises(error):
            search.find(caller, Query())


def test_a_page_loads_the_beginning_of_values_alone():
    store("x" * 1_000_000, "é" * 1_000, b"\x00\xff" * 500)
    rows = search.find(CODE, Query()).rows
    assert [len(row.value or b"") for row in rows] == [600, 600, 600]
    assert [row.size for row in rows] == [1_000, 2_000, 1_000_000]
    binary, cut, long = (row.row().value for row in rows)
    assert (binary.binary, binary.text[:5]) == (True, "00 ff")
    assert set(cut.text) == {"é"}
    assert long.cut


@pytest.mark.parametrize(
    "query",
    [
        Query(),
        Query(topic="orders"),
        Query(topic="orders", partition=1, offset=3),
        Query(since=NOW - timedelta(minutes=20)),
        Query(topic="orders", until=NOW - timedelta(minutes=20)),
        Query(text="message 3"),
        Query(key="k3", header="kind"),
    ],
)
def test_every_query_is_on_an_index(query):
    mixed()
    for before in ("", search.find(CODE, query, "", 5).before or ""):
        with CaptureQueriesContext(connection) as captured:
            search.find(CODE, query, before, 5)
        for executed in captured.captured_queries:
            if "tkcons_message" in executed["sql"]:
                with connection.cursor() as asking:
                    asking.execute("EXPLAIN QUERY PLAN " + executed["sql"].replace("%", "%%"))
                    plan = " ".join(row[3] for row in asking.fetchall())
                # A scan is in the order of the primary key, and ends at the limit.
                assert "SEARCH tkcons_message USING" in plan or "LIMIT" in executed["sql"], (executed["sql"], plan)
                # What is merged is sorted: a page of each partition.
                assert " AS newest" in executed["sql"] or "TEMP B-TREE" not in plan, (executed["sql"], plan)


@pytest.mark.parametrize("text", ["x", "-1", "9" * 30, "c!", "cgA", "c" + "-" * 30, "p5"])
def test_a_place_that_nobody_gave_is_refused(text):
    mixed()
    with pytest.raises(BadCursor):
        search.find(CODE, Query(topic="orders") if text.startswith("c") else Query(), text)


@pytest.mark.parametrize("offsets", [{}, {1: 0}, {7: 2**62, 300: 128, 301: 127}])
def test_a_cursor_is_read_as_it_was_written(offsets):
    assert cursor.load(cursor.dump(offsets)) == offsets


@pytest.mark.parametrize(
    ("address", "query"),
    [
        ("", Query()),
        ("topic=a&partition=0&offset=0&text=+x", Query(topic="a", partition=0, offset=0, text=" x")),
        ("key=k&header=h:+v&group=g", Query(key="k", header="h: v", group="g")),
    ],
)
def test_an_address_says_what_is_looked_for(address, query):
    assert Form(QueryDict(address)).query() == query


def test_times_are_of_the_zone_that_the_address_names():
    given = Form(QueryDict("since=2026-01-01T10:00:00&zone=Europe/Berlin")).query()
    assert given.since is not None
    assert given.since.astimezone(timezone.get_default_timezone()).hour == 9


@pytest.mark.parametrize(
    "address",
    [
        *(
            "partition=x",
            "offset=1",
            "topic=a&offset=-1",
            "since=yesterday",
            "zone=Mars/Olympus",
            "text=%00",
            "zone=../etc",
        ),
        *("since=0001-01-01T00:00&zone=Asia/Tokyo", "until=9999-12-31T23:59&zone=America/Lima"),
    ],
)
def test_what_cannot_be_understood_is_refused(address):
    with pytest.raises(BadQuery):
        Form(QueryDict(address)).query()


def test_the_calendars_ends():
    mixed()
    first, last = datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)
    for topic in ("", "orders"):
        everything = search.find(CODE, Query(topic=topic, since=first, until=last))
        assert everything.rows == search.find(CODE, Query(topic=topic)).rows
        assert search.find(CODE, Query(topic=topic, until=first)).rows == []
        assert search.find(CODE, Query(topic=topic, since=last)).rows == []


def test_a_page_tells_from_where_on_messages_are_new():
    mixed()
    live = cursor.load(search.find(CODE, Query(topic="payments")).live)
    assert live == {place("payments").pk: 20}
