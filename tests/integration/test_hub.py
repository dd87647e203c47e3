"""Following what is stored: every message once and in order, whoever stores it, on SQLite and on PostgreSQL."""

import asyncio
import json
import threading
from collections.abc import Iterator

import pytest
from django.db import connections, transaction

from tests.storing import numbered, place, store
from tests.waiting import eventually
from tkcons import stored
from tkcons.models import Message, Position
from tkcons.viewer import changes, cursor, events, hub, live
from tkcons.viewer.hub import TooManyViewers, Viewer
from tkcons.viewer.live import View
from tkcons.viewer.query import Query

pytestmark = pytest.mark.django_db(transaction=True, databases="__all__")


EVERYTHING = Query()


class Follower:
    """Somebody who follows, and what arrived."""

    def __init__(self, hubs: hub.Hub, query: Query = EVERYTHING, after: str | None = None) -> None:
        self.hub = hubs
        self.viewer = Viewer(View(query), None if after is None else cursor.load(after))
        self.values: list[str] = []
        self.dropped = 0
        self.place = ""
        hubs.join(self.viewer, 1_000)

    def read(self) -> list[str]:
        data = self.viewer.take()
        for event in (data or b"").decode().split("\n\n")[:-1]:
            fields = dict(line.split(": ", 1) for line in event.splitlines())
            self.place = fields.get("id", self.place)
            told = json.loads(fields["data"])
            if fields["event"] == "dropped":
                self.dropped += told["count"]
            elif fields["event"] == "messages":
                self.values += [row["value"]["text"] for row in told]
        return self.values

    def until(self, count: int) -> list[str]:
        eventually(lambda: len(self.read()) >= count)
        return self.values

    def begun(self) -> "Follower":
        eventually(lambda: self.read() is not None and self.place)
        return self


@pytest.fixture
def hubs(monkeypatch) -> Iterator[hub.Hub]:
    monkeypatch.setattr(hub, "LINGER", 0.2)
    made = hub.Hub()
    yield made
    made.close()
    if made._thread is not None:
        made._thread.join(10)


def test_what_is_stored_arrives_once_and_in_order(hubs):
    first, second = Follower(hubs).begun(), Follower(hubs, Query(text="7")).begun()
    for number in range(20):
        store(f"message {number}", topic=f"topic-{number % 3}")
    assert first.until(20) == list(numbered(20))
    assert second.until(2) == ["message 7", "message 17"]


def test_a_place_goes_on_without_a_gap(hubs):
    follower = Follower(hubs).begun()
    store(*numbered(3))
    follower.until(3)
    hubs.leave(follower.viewer)
    store(*numbered(4, 3))
    store("of a new partition", partition=1)
    again = Follower(hubs, after=follower.place)
    store(*numbered(3, 7))
    assert sorted(again.until(8)) == sorted([*numbered(7, 3), "of a new partition"])
    assert again.dropped == 0


def test_a_place_of_another_process_is_as_good(hubs):
    store(*numbered(2))
    after = Follower(hubs).begun().place
    store(*numbered(3, 2))
    other = hub.Hub()
    try:
        assert Follower(other, after=after).until(3) == list(numbered(3, 2))
    finally:
        other.close()


def test_more_than_can_be_told_is_counted(hubs, monkeypatch):
    monkeypatch.setattr(live, "LATEST", 10)
    follower = Follower(hubs).begun()
    store(*numbered(100))
    assert follower.until(10) == list(numbered(10, 90))
    assert follower.dropped == 90


def test_a_slow_follower_loses_the_oldest_and_is_told(hubs, monkeypatch):
    monkeypatch.setattr(hub, "QUEUE_BYTES", 2_000)
    quick, slow = Follower(hubs).begun(), Follower(hubs).begun()
    for number in range(30):
        store(f"message {number}")
        quick.until(number + 1)
    values = slow.read()
    assert 0 < len(values) < 30
    assert values == list(numbered(30))[-len(values) :]
    assert slow.dropped == 30 - len(values)


def test_positions_that_go_back_are_followed_anew(hubs):
    position = store(*numbered(5))
    follower = Follower(hubs).begun()
    Message.objects.all().delete()
    Position.objects.filter(pk=position.pk).update(next_offset=0)
    stored.announce("default")
    eventually(lambda: hubs._ends == {position.pk: 0})
    store("again")
    assert follower.until(1) == ["again"]


def test_no_more_follow_than_may(hubs):
    Follower(hubs)
    with pytest.raises(TooManyViewers):
        hubs.join(Viewer(View(Query()), None), 1)


def test_nobody_follows_and_nothing_runs(hubs):
    follower = Follower(hubs).begun()
    thread = hubs._thread
    assert thread is not None
    hubs.leave(follower.viewer)
    thread.join(10)
    assert not thread.is_alive()
    assert Follower(hubs).begun().place == follower.place


@pytest.mark.parametrize(("room", "pause"), [(1, 2.0), (2**40, 0.25)])
def test_in_a_flood_the_looks_are_the_rarer_the_more_is_sent(hubs, monkeypatch, room, pause):
    monkeypatch.setattr(hub, "FLOOD_BYTES", room)
    hubs._viewers = {Viewer(View(Query()), None)}
    position = store("first")
    hubs._ends = {position.pk: 0}
    assert hubs._look() == 0
    store(*numbered(live.LATEST + 1))
    assert hubs._look() == pause


def test_a_sign_of_life_where_nothing_is_stored(hubs, monkeypatch):
    monkeypatch.setattr(events, "HEARTBEAT", 0.02)
    monkeypatch.setattr(events, "hub", lambda: hubs)
    monkeypatch.setattr(events.ending, "watch", lambda: None)
    body = iter(events._Body(Follower(hubs).begun().viewer))
    assert [next(body), next(body)] == [events.FIRST, events.BEAT]

    async def first(count: int) -> list[bytes]:
        stream = events._LoopStream(Follower(hubs).begun().viewer).__aiter__()
        return [await anext(stream) for _ in range(count)]

    assert asyncio.run(first(3)) == [events.FIRST, events.BEAT, events.BEAT]


def test_a_token_follows_its_topics_alone(hubs):
    viewer = Viewer(View(Query(), ("pay*",)), None)
    hubs.join(viewer, 10)
    eventually(viewer.take)
    store("secret", topic="orders")
    store("mine", topic="payments")
    told: list[bytes] = []
    eventually(lambda: b"mine" in b"".join(told) or told.append(viewer.take() or b""))
    assert b"secret" not in b"".join(told)


class TestPostgres:
    """Several writers at once: keys are not in the order of commits there."""

    @pytest.fixture(autouse=True)
    def _use(self, postgres_alias, monkeypatch):
        monkeypatch.setattr("tkcons.viewer.store.using", lambda: postgres_alias)
        self.using = postgres_alias
        yield
        for model in (Message, Position):
            model.objects.using(postgres_alias).all().delete()

    def store(self, position: Position, value: str) -> None:
        from django.utils import timezone

        rows = Position.objects.using(self.using).filter(pk=position.pk)
        Message(position=position, offset=rows.get().next_offset, value=value.encode(), stored_at=timezone.now()).save(
            using=self.using
        )
        rows.update(next_offset=rows.get().next_offset + 1)
        stored.announce(self.using)

    def test_what_commits_late_under_an_early_key_is_not_missed(self, hubs):
        slow, quick = (
            Position.objects.using(self.using).create(
                group="g", topic="t", topic_id="t", partition=number, start_offset=0, next_offset=0
            )
            for number in range(2)
        )
        follower = Follower(hubs).begun()
        inserted, may_commit = threading.Event(), threading.Event()

        def late() -> None:
            with transaction.atomic(using=self.using):
                self.store(slow, "early key, late commit")
                inserted.set()
                may_commit.wait(20)
            connections[self.using].close()

        thread = threading.Thread(target=late)
        thread.start()
        inserted.wait(20)
        with transaction.atomic(using=self.using):
            self.store(quick, "late key, early commit")
        assert follower.until(1) == ["late key, early commit"]
        may_commit.set()
        thread.join(20)
        assert follower.until(2)[1] == "early key, late commit"

    def test_notify_wakes_the_reader(self, hubs, monkeypatch):
        monkeypatch.setattr(hub, "LOOK_SECONDS", 1_000)  # nothing else does
        position = Position.objects.using(self.using).create(
            group="g", topic="t", topic_id="t", partition=0, start_offset=0, next_offset=0
        )
        follower = Follower(hubs).begun()
        for number in range(3):
            with transaction.atomic(using=self.using):
                self.store(position, f"message {number}")
            follower.until(number + 1)

    def test_a_database_that_comes_back_is_followed_again(self, hubs, monkeypatch):
        monkeypatch.setattr(hub, "RETRY_SECONDS", 0.1)
        position = Position.objects.using(self.using).create(
            group="g", topic="t", topic_id="t", partition=0, start_offset=0, next_offset=0
        )
        follower = Follower(hubs).begun()
        with connections[self.using].cursor() as asking:
            asking.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()")
        with transaction.atomic(using=self.using):
            self.store(position, "after")
        assert follower.until(1) == ["after"]


def test_another_connections_commit_is_noticed_without_being_told(monkeypatch):
    """SQLite: another process stores, which tells nobody here."""
    monkeypatch.setattr(stored, "announce", lambda using: None)
    place()
    with changes.Changes("default") as watched:
        watched.wait(0)
        assert not watched.wait(0.01)

        def elsewhere() -> None:
            Position.objects.update(next_offset=5)
            connections["default"].close()

        thread = threading.Thread(target=elsewhere)
        thread.start()
        thread.join(10)
        assert watched.wait(0.01)
