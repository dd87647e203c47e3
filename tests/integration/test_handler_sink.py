"""A handler's transaction on both databases: what another owner, a slow call, a timeout and an outage do to it."""

import sqlite3
import threading
from contextlib import closing
from functools import partial

import pytest
from confluent_kafka import Message
from django.contrib.auth.models import Group as Role
from django.db import connections, transaction

from tk.access import CODE
from tk.record import EVENT_ID_HEADER
from tkcons import deadletters, positions
from tkcons.errors import RetryLater, SinkUnavailable, StaleOwner
from tkcons.handlers import Handler
from tkcons.models import DeadLetter, Gap, Position, SeenEvent
from tkcons.sinks.base import Batch, Claim, Place
from tkcons.sinks.handler import HandlerSink

PLACE = Place("orders", "id-1", 0)


pytestmark = [
    pytest.mark.usefixtures("postgres_alias"),
    pytest.mark.django_db(transaction=True, databases=["default", "postgres"]),
]


@pytest.fixture(params=["default", "postgres"])
def using(request) -> str:
    return request.param


def sink_of(function, **options) -> HandlerSink:
    given = {
        "group": "g",
        "topics": ("orders",),
        "batch": None,
        "decode": Message.value,
        "tries": 2,
        "pauses": (0.0, 0.0),
        "dead_letter": None,
        "timeout": 60.0,
        "using": "postgres",
        "start": None,
        **options,
    }
    return HandlerSink("g", handler=Handler(function, **given))


def batch(claim: Claim, *offsets: int) -> Batch:
    messages = [Message(topic="orders", partition=0, offset=n, value=b"v%d" % n, timestamp=(1, 5)) for n in offsets]
    return Batch(PLACE, claim, messages, offsets[-1] + 1)


def begun(sink: HandlerSink) -> Claim:
    sink.begin({PLACE: 0})
    return sink.claim([PLACE])[PLACE]


def note(message, using: str = "postgres") -> None:
    Role.objects.using(using).create(name=message.value.decode())


def noted(using: str = "postgres") -> list[str]:
    return list(Role.objects.using(using).order_by("pk").values_list("name", flat=True))


def position(using: str = "postgres") -> int:
    return Position.objects.using(using).get().next_offset


def test_effects_and_position_in_one_transaction(using):
    sink = sink_of(partial(note, using=using), using=using)
    assert sink.write([batch(begun(sink), 0, 1, 2)]) == 3
    assert noted(using) == ["v0", "v1", "v2"]
    assert position(using) == 3


def test_a_try_does_not_wait_for_the_disk_and_the_position_does(using):
    connection = connections[using]
    ask, full = {"sqlite": ("PRAGMA synchronous", 2), "postgresql": ("SHOW synchronous_commit", "on")}[
        connection.vendor
    ]
    said, levels = [], []

    def look(message):
        with connection.cursor() as cursor:
            cursor.execute(ask)
            levels.append(cursor.fetchone()[0])

    def listen(execute, sql, *given):
        said.append(sql)
        return execute(sql, *given)

    sink = sink_of(look, using=using)
    claim = begun(sink)
    with connection.execute_wrapper(listen):
        sink.write([batch(claim, 0)])
    look(None)
    assert levels == [full, full]  # in the transaction, and after it
    tries = "\n".join(said[: said.index(next(sql for sql in said if "SET next_offset" in sql))])
    assert "synchronous = NORMAL" in tries or "set_config('synchronous_commit', 'off', true)" in tries


def test_a_failure_rolls_back_both_and_at_last_is_a_letter(using):
    def fail(message):
        note(message, using)
        if message.offset == 1:
            raise ValueError("poison")

    sink = sink_of(fail, using=using)
    claim = begun(sink)
    with pytest.raises(RetryLater) as caught:
        sink.write([batch(claim, 0, 1, 2)])
    assert caught.value.next_offset == position(using) == 1
    assert noted(using) == ["v0"]
    assert sink.write([batch(claim._replace(next_offset=1), 1, 2)]) == 3
    assert noted(using) == ["v0", "v2"]
    letter = DeadLetter.objects.using(using).get()
    found = deadletters.waiting(CODE, using)
    assert [each.pk for each in found.filter(deadletters.matches("v1"))] == [letter.pk]  # text in the value's bytes
    assert not found.filter(deadletters.matches("v7")).exists()


def test_the_old_owner_is_refused_before_its_handler_is_called(using):
    calls: list[object] = []
    old, new = sink_of(calls.append, using=using), sink_of(note, using=using)
    claim = begun(old)
    new.claim([PLACE])
    with pytest.raises(StaleOwner):
        old.write([batch(claim, 0)])
    assert calls == []


class Clock:
    """Time that goes on when a handler says so."""

    def __init__(self) -> None:
        self.now = 1.0

    def monotonic(self) -> float:
        return self.now


class Killed(BaseException):
    """Nothing catches it: what a process leaves in the database when it is killed in a call."""


def test_tries_survive_the_end_of_the_process_and_the_one_that_kills_is_a_letter(using):
    calls: list[str] = []

    def kill(message):
        calls.append(message.value.decode())
        note(message, using)
        if message.offset == 2:
            raise Killed

    def once() -> Claim:
        """A process: it claims, handles, and is killed or comes to the end."""
        sink = sink_of(kill, using=using, tries=2)
        claim = sink.claim([PLACE]).get(PLACE) or begun(sink)
        while claim.next_offset < 4:
            claim = claim._replace(next_offset=sink.write([batch(claim, *range(claim.next_offset, 4))]))
        return claim

    for _ in range(3):  # once among others, then alone as often as tries says
        with pytest.raises(Killed):
            once()
    assert once().next_offset == 4
    assert noted(using) == ["v0", "v1", "v3"]
    assert calls == ["v0", "v1", "v2", "v0", "v1", "v2", "v2", "v3"]
    letter = DeadLetter.objects.using(using).get()
    assert (letter.offset, letter.tries) == (2, 2)
    assert letter.cause.startswith("ProcessEnded")


def test_of_what_is_known_the_next_try_is_recorded_with_the_position(using):
    said, killed = [], []

    def handle(messages):
        if killed and messages[0].offset == 4:
            raise Killed

    def listen(execute, sql, *given):
        said.append(sql)
        return execute(sql, *given)

    sink = sink_of(handle, using=using, batch=2)
    claim = begun(sink)
    with connections[using].execute_wrapper(listen):
        assert sink.write([batch(claim, 0, 1, 2, 3, 4, 5)]) == 6
    assert sum("SET trying_until" in sql for sql in said) == 1
    assert Position.objects.using(using).get().trying_until is None
    killed.append(True)
    claim = sink.claim([PLACE])[PLACE]
    Position.objects.using(using).update(next_offset=0)
    with pytest.raises(Killed):
        sink.write([batch(claim._replace(next_offset=0), 0, 1, 2, 3, 4, 5)])
    assert (position(using), Position.objects.using(using).get().trying_until) == (4, 6)


def test_a_try_on_record_is_begun_and_one_for_which_there_is_no_time_is_not_recorded(using, monkeypatch):
    clock = Clock()
    monkeypatch.setattr("tkcons.sinks.handler.time", clock)
    monkeypatch.setattr("tkcons.sinks.handler.LONG_SECONDS", 600.0)
    late = positions.remember

    def slow(messages):
        clock.now += 0.3

    sink = sink_of(slow, using=using, batch=2)
    claim = begun(sink)
    assert sink.write([batch(claim, *range(8))]) == 4
    assert Position.objects.using(using).get().trying_until is None

    def commit_late(*given):
        clock.now += 60
        late(*given)

    monkeypatch.setattr("tkcons.positions.remember", commit_late)
    claim = claim._replace(next_offset=4)
    clock.now += 1
    assert sink.write([batch(claim, *range(4, 10))]) == 8  # begun though the time is over
    assert Position.objects.using(using).get().trying_until is None


@pytest.mark.parametrize("kind", ["plain", "async"])
def test_a_transaction_ends_with_its_slice_and_the_rest_comes_again(using, kind, monkeypatch):
    """Whatever was not called is neither passed nor remembered: its event is no repeat when it comes again."""
    clock = Clock()
    monkeypatch.setattr("tkcons.call.time", clock)
    monkeypatch.setattr("tkcons.sinks.handler.time", clock)
    monkeypatch.setattr("tkcons.sinks.handler.LONG_SECONDS", 60.0)

    def slow(message):
        note(message, using)
        clock.now += 0.3

    async def slowly(message):
        await Role.objects.using(using).acreate(name=message.value.decode())
        clock.now += 0.3

    sink = sink_of(slow if kind == "plain" else slowly, using=using)
    claim = begun(sink)
    ids = [b"a", b"b", b"a", b"c", b"d", b"b", b"e"]  # 2 and 5 are repeats
    messages = [
        Message(topic="orders", partition=0, offset=n, value=b"v%d" % n, headers=[(EVENT_ID_HEADER, each)])
        for n, each in enumerate(ids)
    ]
    assert sink.write([Batch(PLACE, claim, messages, 7)]) == position(using) == 3
    assert noted(using) == ["v0", "v1"]
    assert sorted(SeenEvent.objects.using(using).values_list("event_id", flat=True)) == ["a", "b"]
    assert list(Gap.objects.using(using).values_list("first_offset", flat=True)) == [2]
    claim = claim._replace(next_offset=3)
    assert sink.write([Batch(PLACE, claim, messages[3:], 7)]) == 6
    assert sink.write([Batch(PLACE, claim._replace(next_offset=6), messages[6:], 7)]) == position(using) == 7
    assert noted(using) == ["v0", "v1", "v3", "v4", "v6"]
    assert list(Gap.objects.using(using).values_list("first_offset", flat=True)) == [2, 5]


def test_a_batch_is_one_call_however_long_it_takes(using, monkeypatch):
    monkeypatch.setattr("tkcons.sinks.handler.SLICE_SECONDS", 0.05)
    sizes: list[int] = []

    def slow(messages):
        sizes.append(len(messages))
        threading.Event().wait(0.1)

    sink = sink_of(slow, using=using, batch=4)
    claim = begun(sink)
    assert sink.write([batch(claim, *range(6))]) == 4
    assert sink.write([batch(claim._replace(next_offset=4), 4, 5)]) == 6
    assert sizes == [4, 2]


def test_a_slow_handler_leaves_sqlite_to_others():
    def slow(message):
        note(message, "default")
        threading.Event().wait(0.2)

    sink = sink_of(slow, using="default")
    claim = begun(sink)
    ending = threading.Event()

    def work() -> None:
        place = claim
        try:
            while not ending.is_set():
                first = place.next_offset
                place = place._replace(next_offset=sink.write([batch(place, *range(first, first + 1_000))]))
        finally:
            connections.close_all()

    thread = threading.Thread(target=work)
    thread.start()
    try:
        with closing(sqlite3.connect(connections["default"].settings_dict["NAME"], timeout=3)) as other:
            for _ in range(6):
                other.execute("BEGIN IMMEDIATE")
                other.rollback()
                ending.wait(0.2)
    finally:
        ending.set()
        thread.join(20)
    assert noted("default") == [f"v{number}" for number in range(position("default"))]


def test_a_new_owner_waits_for_the_one_inside_its_transaction_and_then_goes_on_after_it(monkeypatch):
    monkeypatch.setattr(positions, "LOCK_TIMEOUT", 200)
    entered, leave = threading.Event(), threading.Event()

    def slow(message):
        note(message)
        entered.set()
        assert leave.wait(20)

    first, second = sink_of(slow), sink_of(note)
    claim = begun(first)

    def work() -> None:
        try:
            first.write([batch(claim, 0)])
        finally:
            connections.close_all()

    thread = threading.Thread(target=work)
    thread.start()
    assert entered.wait(20)
    with pytest.raises(SinkUnavailable):
        second.claim([PLACE])
    leave.set()
    thread.join(20)
    assert second.claim([PLACE])[PLACE].next_offset == 1
    assert noted() == ["v0"]


def test_the_server_ends_the_transaction_of_a_handler_that_hangs(monkeypatch):
    monkeypatch.setattr("tkcons.sinks.handler.LEEWAY_SECONDS", 0.0)

    def hang(message):
        note(message)
        threading.Event().wait(1.5)

    sink = sink_of(hang, timeout=0.3)
    with pytest.raises(SinkUnavailable):
        sink.write([batch(begun(sink), 0)])
    connections["postgres"].close()
    assert noted() == []
    assert position() == 0


def test_a_statement_that_times_out_is_the_messages_fault_and_a_lost_connection_is_not():
    def timeout(message):
        with connections["postgres"].cursor() as cursor:
            cursor.execute("SET LOCAL statement_timeout = 50")
            cursor.execute("SELECT pg_sleep(5)")

    def lose(message):
        with connections["postgres"].cursor() as cursor:
            cursor.execute("SELECT pg_terminate_backend(pg_backend_pid())")

    sink = sink_of(timeout, tries=1)
    claim = begun(sink)
    assert sink.write([batch(claim, 0)]) == 1
    assert "statement timeout" in DeadLetter.objects.using("postgres").get().cause
    sink = sink_of(lose, tries=1)
    claim = sink.claim([PLACE])[PLACE]
    with pytest.raises(SinkUnavailable):
        sink.write([batch(claim, 1)])
    connections["postgres"].close()
    assert DeadLetter.objects.using("postgres").count() == 1
    assert position() == 1


def test_the_handlers_own_locks_are_waited_for_as_the_database_says():
    seen = []

    def look(message):
        with connections["postgres"].cursor() as cursor:
            cursor.execute("SHOW lock_timeout")
            seen.append(cursor.fetchone()[0])

    sink = sink_of(look)
    sink.write([batch(begun(sink), 0)])
    assert seen == ["0"]


def test_two_processes_never_take_the_same_letter():
    sink = sink_of(note, tries=1)
    message = Message(topic="orders", partition=0, offset=0, value=b"v0", timestamp=(1, 5))
    letter = deadletters.make("g", PLACE, message, ValueError("x"), 1)
    deadletters.store(letter, "postgres")
    deadletters.resend([letter.pk], CODE, "postgres")
    with transaction.atomic(using="postgres"):
        DeadLetter.objects.using("postgres").select_for_update().get()
        other: list[int] = []

        def work() -> None:
            try:
                other.append(len(deadletters.take("g", 10, "postgres")))
            finally:
                connections.close_all()

        thread = threading.Thread(target=work)
        thread.start()
        thread.join(10)
    assert other == [0]
    sink.tick()
    assert noted() == ["v0"]
    assert DeadLetter.objects.using("postgres").get().state == DeadLetter.State.RESENT
