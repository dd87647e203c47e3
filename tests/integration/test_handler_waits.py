"""Handlers that take long, hang, or wait for locks: what others see of it, on both databases."""

import sqlite3
import threading
from contextlib import closing

import pytest
from django.db import connections

from tests.integration.transacting import PLACE, batch, begun, note, noted, position, sink_of
from tkcons import positions
from tkcons.errors import SinkUnavailable
from tkcons.models import DeadLetter

pytestmark = [
    pytest.mark.usefixtures("postgres_alias"),
    pytest.mark.django_db(transaction=True, databases=["default", "postgres"]),
]


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
