"""A handler's transaction on PostgreSQL: what another owner, a timeout and an outage do to it."""

import threading

import pytest
from confluent_kafka import Message
from django.contrib.auth.models import Group as Role
from django.db import connections, transaction

from tk.access import CODE
from tkcons import deadletters, positions
from tkcons.errors import RetryLater, SinkUnavailable, StaleOwner
from tkcons.handlers import Handler
from tkcons.models import DeadLetter, Position
from tkcons.sinks.base import Batch, Claim, Place
from tkcons.sinks.handler import HandlerSink

PLACE = Place("orders", "id-1", 0)


@pytest.fixture(autouse=True)
def _empty(postgres_alias, django_db_blocker):
    with django_db_blocker.unblock():
        yield
        for model in (DeadLetter, Position, Role):
            model.objects.using("postgres").all().delete()


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


def note(message) -> None:
    Role.objects.using("postgres").create(name=message.value.decode())


def noted() -> list[str]:
    return sorted(Role.objects.using("postgres").values_list("name", flat=True))


def position() -> int:
    return Position.objects.using("postgres").get().next_offset


def test_effects_and_position_in_one_transaction():
    sink = sink_of(note)
    assert sink.write([batch(begun(sink), 0, 1, 2)]) == 3
    assert noted() == ["v0", "v1", "v2"]
    assert position() == 3


def test_a_failure_rolls_back_both_and_at_last_is_a_letter():
    def fail(message):
        note(message)
        if message.offset == 1:
            raise ValueError("poison")

    sink = sink_of(fail)
    claim = begun(sink)
    with pytest.raises(RetryLater) as caught:
        sink.write([batch(claim, 0, 1, 2)])
    assert caught.value.next_offset == position() == 1
    assert noted() == ["v0"]
    assert sink.write([batch(claim._replace(next_offset=1), 1, 2)]) == 3
    assert noted() == ["v0", "v2"]
    letter = DeadLetter.objects.using("postgres").get()
    found = deadletters.waiting(CODE, "postgres")
    assert [each.pk for each in found.filter(deadletters.matches("v1"))] == [letter.pk]  # text in the value's bytes
    assert not found.filter(deadletters.matches("v7")).exists()


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


def test_the_old_owner_is_refused_before_its_handler_is_called():
    calls: list[object] = []
    old, new = sink_of(calls.append), sink_of(note)
    claim = begun(old)
    new.claim([PLACE])
    with pytest.raises(StaleOwner):
        old.write([batch(claim, 0)])
    assert calls == []


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
