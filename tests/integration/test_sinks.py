"""The sinks on real databases, SQLite and PostgreSQL, and one of somebody's own."""

import subprocess
import sys
import threading
import time
from datetime import UTC, datetime, timedelta

import pytest
from django.contrib.auth.models import Group as Role
from django.core.management import CommandError, call_command
from django.db import DatabaseError, connections, transaction
from django.utils import timezone

from tests.handling.totals import Totals
from tests.sink_contract import OTHER, PLACE, SinkContract, batch, message
from tk.record import EVENT_ID_HEADER
from tkcons import positions, retention
from tkcons.errors import SinkDamaged, SinkUnavailable
from tkcons.models import Gap, Message, Position, SeenEvent
from tkcons.sinks import DatabaseSink
from tkcons.sinks.base import Batch


class DatabaseContract(SinkContract):
    alias = "default"

    def make(self):
        return DatabaseSink("group", using=self.alias)

    def stored(self):
        rows = Message.objects.using(self.alias).order_by("pk")
        return [(row.position.partition, row.offset) for row in rows.select_related("position")]

    def test_what_is_stored_is_what_came(self, sink):
        self.test_every_kind_of_message(sink)
        rows = list(Message.objects.using(self.alias).order_by("offset"))
        assert (rows[0].value, bytes(rows[0].key)) == (None, b"k")
        assert bytes(rows[2].value) == b"\x00\xff"
        assert rows[3].headers == '[["a","b"],["n",null],["x","/w==","base64"]]'
        assert len(rows[4].value) == 1_048_576
        assert (rows[0].timestamp, rows[5].timestamp) == (1_700_000_000_000, None)

    def test_groups_do_not_touch_each_other(self, sink):
        self.begun(sink, PLACE)
        other = DatabaseSink("another", using=self.alias)
        assert other.claim([PLACE]) == {}
        assert not other.knows("orders")

    def test_a_repeat_is_noted_as_a_gap(self, sink):
        self.test_a_repeated_event_is_stored_once(sink)
        gaps = Gap.objects.using(self.alias).order_by("pk")
        assert [(gap.position.partition, gap.first_offset, gap.end_offset) for gap in gaps] == [
            (0, 2, 3),
            (1, 0, 1),
            (0, 4, 5),
        ]

    def test_events_are_forgotten_after_their_days(self, sink):
        self.test_a_repeated_event_is_stored_once(sink)
        events = SeenEvent.objects.using(self.alias)
        events.filter(event_id="a").update(seen_at=timezone.now() - timedelta(days=8))
        sink.tick()
        assert sorted(events.values_list("event_id", flat=True)) == ["b", "c"]

    def test_an_event_and_its_repeat_at_the_same_moment_are_tried_again(self, sink, monkeypatch):
        claims = self.begun(sink, PLACE, OTHER)
        event = {"headers": [(EVENT_ID_HEADER, b"a")]}
        sink.write([Batch(PLACE, claims[PLACE], [message(PLACE, 0, **event)], 1)])
        monkeypatch.setattr(positions, "seen", lambda *_: set())  # the other partition's transaction is still open
        other = [Batch(OTHER, claims[OTHER], [message(OTHER, 0, **event)], 1)]
        with pytest.raises(SinkUnavailable):
            sink.write(other)
        monkeypatch.undo()
        sink.write(other)
        assert self.stored() == [(0, 0)]

    def test_pruning_notes_what_it_removed(self, sink):
        claims = self.begun(sink, PLACE, OTHER)
        sink.tick()
        sink.write([batch(PLACE, claims[PLACE], 0, 1, 5), batch(OTHER, claims[OTHER], 0)])
        call_command("prunemessages", days=1, database=self.alias, verbosity=0)
        assert len(self.stored()) == 4
        assert retention.prune(timezone.now() + timedelta(days=1), self.alias) == 4
        assert self.stored() == []
        sink.tick()
        sink.write([batch(PLACE, claims[PLACE]._replace(next_offset=6), 6)])
        retention.make_partitions(self.alias)
        retention.prune(timezone.now() + timedelta(days=1), self.alias)
        gaps = Gap.objects.using(self.alias).filter(reason="pruned").order_by("position__partition")
        assert [(gap.position.partition, gap.first_offset, gap.end_offset) for gap in gaps] == [(0, 0, 7), (1, 0, 1)]


@pytest.mark.django_db(transaction=True)
class TestOnSQLite(DatabaseContract):
    def test_a_row_that_is_there_already_is_damage_and_stores_nothing(self, sink):
        claim = self.begun(sink, PLACE)[PLACE]
        sink.write([batch(PLACE, claim, 0)])
        Position.objects.using(self.alias).update(next_offset=0)
        with pytest.raises(SinkDamaged):
            sink.write([batch(PLACE, claim, 0, 1)])
        assert self.stored() == [(0, 0)]

    def test_a_locked_database_is_waited_for(self, sink, settings, tmp_path):
        claim = self.begun(sink, PLACE)[PLACE]
        connection = connections["default"]
        holder = subprocess.Popen(
            [
                sys.executable,
                "-c",
                (
                    "import sqlite3, sys; db = sqlite3.connect(sys.argv[1]); db.execute('BEGIN IMMEDIATE');"
                    "print('held', flush=True); sys.stdin.read()"
                ),
                connection.settings_dict["NAME"],
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        assert holder.stdout.readline() == b"held\n"
        with connection.cursor() as cursor:
            cursor.execute("PRAGMA busy_timeout = 50")
        with pytest.raises(SinkUnavailable):
            sink.write([batch(PLACE, claim, 0)])
        holder.communicate()
        sink.write([batch(PLACE, claim, 0)])
        assert self.stored() == [(0, 0)]
        connection.close()


@pytest.mark.parametrize("given", [{"days": 1, "database": "nowhere"}, {"days": -1}])
def test_pruning_refuses_what_it_does_not_understand(given):
    with pytest.raises(CommandError):
        call_command("prunemessages", **given)


class TestOnPostgres(DatabaseContract):
    alias = "postgres"

    @pytest.fixture(autouse=True)
    def _empty(self, postgres_alias, django_db_blocker):
        with django_db_blocker.unblock():  # the mark django_db knows the databases of the settings alone
            yield
            Message.objects.using(self.alias).all().delete()
            SeenEvent.objects.using(self.alias).all().delete()
            Position.objects.using(self.alias).all().delete()

    def test_a_day_has_its_partition_and_what_has_none_is_stored_too(self, sink):
        claim = self.begun(sink, PLACE)[PLACE]
        with connections[self.alias].cursor() as cursor:
            for name in self.partitions() - {"tkcons_message_default"}:
                cursor.execute(f"DROP TABLE {name}")
        sink.write([batch(PLACE, claim, 0)])
        assert self.partitions() == {"tkcons_message_default"}
        sink.tick()  # today's is not to be had: its rows are in the default partition already
        now = datetime.now(UTC)
        tomorrow = f"tkcons_message_{now + timedelta(days=1):%Y%m%d}"
        assert self.partitions() == {"tkcons_message_default", tomorrow}
        Message.objects.using(self.alias).all().delete()
        retention.make_partitions(self.alias)
        assert self.partitions() == {"tkcons_message_default", tomorrow, f"tkcons_message_{now:%Y%m%d}"}
        sink.write([batch(PLACE, claim._replace(next_offset=1), 1)])
        with connections[self.alias].cursor() as cursor:
            cursor.execute("SELECT count(*) FROM tkcons_message_default")
            assert cursor.fetchone() == (0,)

    def partitions(self) -> set[str]:
        with connections[self.alias].cursor() as cursor:
            cursor.execute(
                "SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = 'tkcons_message'::regclass"
            )
            return {name for (name,) in cursor.fetchall()}

    def test_the_migration_goes_back_and_forth_with_its_rows(self, sink):
        claim = self.begun(sink, PLACE)[PLACE]
        sink.write([batch(PLACE, claim, 0)])
        call_command("migrate", "tkcons", "0001", database=self.alias, verbosity=0)
        try:
            assert not retention.is_partitioned(self.alias)
            with connections[self.alias].cursor() as cursor:
                cursor.execute("SELECT count(*) FROM tkcons_message")
                assert cursor.fetchone() == (1,)
        finally:
            call_command("migrate", "tkcons", database=self.alias, verbosity=0)
        sink.write([batch(PLACE, claim._replace(next_offset=1), 1)])
        assert self.stored() == [(0, 0), (0, 1)]

    def test_an_owner_that_hangs_in_its_transaction_is_put_out(self, sink, postgres, monkeypatch):
        monkeypatch.setattr(positions, "LOCK_TIMEOUT", 200)
        monkeypatch.setattr(positions, "IDLE_TIMEOUT", 700)
        claim = self.begun(sink, PLACE)[PLACE]
        hanging, failed = threading.Event(), []

        def zombie() -> None:
            try:
                with transaction.atomic(using=self.alias):
                    positions.limit_waits(self.alias)
                    positions.advance([batch(PLACE, claim, 0)], sink._keys, self.alias)
                    hanging.set()
                    time.sleep(2)
            except DatabaseError as error:
                failed.append(error)
            finally:
                connections.close_all()

        thread = threading.Thread(target=zombie)
        thread.start()
        assert hanging.wait(5)
        with pytest.raises(SinkUnavailable):  # within its lock timeout
            sink.claim([PLACE])
        deadline = time.monotonic() + 5
        while True:
            try:
                new = sink.claim([PLACE])[PLACE]
                break
            except SinkUnavailable:
                assert time.monotonic() < deadline
        assert new.next_offset == 0
        assert not failed  # it still sleeps: the server has ended its transaction
        sink.write([batch(PLACE, new, 0)])
        thread.join()
        assert failed
        assert self.stored() == [(0, 0)]

    def test_a_restarted_server_is_waited_for(self, sink, postgres):
        claim = self.begun(sink, PLACE)[PLACE]
        postgres.kill()
        with pytest.raises(SinkUnavailable):
            sink.write([batch(PLACE, claim, 0)])
        postgres.start()
        connections["postgres"].close()  # what the worker does between tries
        sink.write([batch(PLACE, claim, 0)])
        assert self.stored() == [(0, 0)]


@pytest.mark.django_db(transaction=True)
class TestASinkOfSomebodysOwn(SinkContract):
    def make(self):
        return Totals("group")

    def stored(self):
        names = Role.objects.order_by("pk").values_list("name", flat=True)
        return [tuple(map(int, name.split("-"))) for name in names]
