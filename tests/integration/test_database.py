"""Connections of threads that write one batch after the other, and commits that do not wait for the disk."""

import time

import pytest
from django.contrib.auth.models import Group as Role
from django.db import DatabaseError, connections, transaction

from tk.database import keep_connections, unsynced

pytestmark = [
    pytest.mark.usefixtures("postgres_alias"),
    pytest.mark.django_db(transaction=True, databases=["default", "postgres"]),
]


@pytest.fixture(params=["default", "postgres"])
def connection(request):
    yield connections[request.param]
    connections[request.param].close()


def ask(connection) -> object:
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")
    return connection.connection


def test_a_connection_is_kept_from_batch_to_batch(connection):
    connection.close()
    first = ask(connection)
    assert connection.settings_dict["CONN_MAX_AGE"] == 0
    keep_connections()
    assert ask(connection) is first


def test_one_that_is_older_than_the_settings_say_is_closed(connection, monkeypatch):
    monkeypatch.setitem(connection.settings_dict, "CONN_MAX_AGE", 600)
    connection.close()
    ask(connection)
    keep_connections()
    assert connection.connection is not None
    connection.close_at = time.monotonic()
    keep_connections()
    assert connection.connection is None


def test_one_that_is_broken_is_closed():
    connection = connections["postgres"]
    ask(connection)
    with pytest.raises(DatabaseError), connection.cursor() as cursor:
        cursor.execute("SELECT pg_terminate_backend(pg_backend_pid())")
    keep_connections()
    assert connection.connection is None
    ask(connection)


def level(connection) -> int:
    with connection.cursor() as cursor:
        cursor.execute("PRAGMA synchronous")
        return cursor.fetchone()[0]


def test_sqlite_waits_for_the_disk_again_whatever_happens():
    connection = connections["default"]
    with unsynced("default"):
        assert level(connection) == 1
        Role.objects.create(name="a")
    assert level(connection) == 2
    with pytest.raises(ZeroDivisionError), unsynced("default"):
        raise ZeroDivisionError
    assert level(connection) == 2


def test_in_a_transaction_and_without_wal_every_commit_waits():
    connection = connections["default"]
    with transaction.atomic(), unsynced("default"):
        assert level(connection) == 2
    with connection.cursor() as cursor:
        cursor.execute("PRAGMA journal_mode = DELETE")
        try:
            with unsynced("default"):
                assert level(connection) == 2
        finally:
            cursor.execute("PRAGMA journal_mode = WAL")


def test_who_waits_for_no_commit_does_not_begin_to():
    connection = connections["default"]
    with connection.cursor() as cursor:
        cursor.execute("PRAGMA synchronous = OFF")
    with unsynced("default"):
        assert level(connection) == 0
    assert level(connection) == 0
    connection.close()
