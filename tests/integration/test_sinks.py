"""The sinks on real storage: SQLite, PostgreSQL, files."""

import os
import re
import signal
import sqlite3
import stat
import subprocess
import sys
import threading
import time
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import pytest
from django.contrib.auth.models import Group as Role
from django.core.exceptions import ImproperlyConfigured
from django.core.management import CommandError, call_command
from django.db import DatabaseError, connections, transaction
from django.utils import timezone

from tests.handling.totals import Totals
from tests.sink_contract import OTHER, PLACE, SinkContract, batch, message
from tk.record import EVENT_ID_HEADER
from tkcons import positions, retention
from tkcons.errors import SinkDamaged, SinkLocked, SinkUnavailable, StaleOwner
from tkcons.models import Gap, Message, Position, SeenEvent
from tkcons.sinks import DatabaseSink, JsonLinesSink, TextFileSink
from tkcons.sinks.base import Batch, Place


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


class TestTextFile(SinkContract):
    @pytest.fixture(autouse=True)
    def _folder(self, tmp_path):
        self.path = tmp_path / "static" / "consumed_messages.txt"

    def make(self):
        return TextFileSink("group", path=self.path)

    def stored(self):
        found = re.findall(
            r"^ConsumerRecord\(topic='orders', partition=(\d+), offset=(\d+),", self.text(), re.MULTILINE
        )
        return [(int(partition), int(offset)) for partition, offset in found]

    def text(self) -> str:
        return self.path.read_text() if self.path.exists() else ""

    def test_a_line_a_message(self, sink):
        self.test_every_kind_of_message(sink)
        assert len(self.text().splitlines()) == 6
        assert all(line.endswith("<br>") for line in self.text().splitlines())

    def test_a_second_writer_is_refused(self, sink):
        with pytest.raises(SinkLocked):
            self.make().open()

    def test_what_was_never_recorded_is_cut_off(self, sink):
        claim = self.begun(sink, PLACE)[PLACE]
        sink.write([batch(PLACE, claim, 0)])
        sink.close()
        with self.path.open("a") as file:
            file.write("ConsumerRecord(topic='orders', partition=0, offset=1, half a li")
        sink.open()
        assert self.stored() == [(0, 0)]
        assert self.text().endswith("<br>\n")

    def test_a_file_that_lost_something_stops_the_sink(self, sink):
        claim = self.begun(sink, PLACE)[PLACE]
        sink.write([batch(PLACE, claim, 0)])
        sink.close()
        self.path.write_text("")
        with pytest.raises(SinkDamaged, match="recorded"):
            sink.open()
        with pytest.raises(SinkUnavailable):  # and is closed
            sink.claim([PLACE])

    @pytest.mark.parametrize("ending", ["", ".lock", ".positions"])
    def test_a_symlink_in_its_place_is_not_followed(self, tmp_path, ending):
        self.path.parent.mkdir()
        target = tmp_path / "target"
        target.touch()
        self.path.with_name(self.path.name + ending).symlink_to(target)
        with pytest.raises(SinkUnavailable, match="symbolic links"):
            self.make().open()
        assert target.read_bytes() == b""

    def test_data_and_name_are_on_the_disk_before_they_are_recorded(self, sink, monkeypatch):
        self.path.unlink()
        sink._close_files()
        claim = self.begun(sink, PLACE)[PLACE]
        real, synced = os.fsync, []

        def fsync(number: int) -> None:
            with closing(sqlite3.connect(f"{self.path}.positions")) as record:
                (recorded,) = record.execute("SELECT next_offset FROM position").fetchone()
            synced.append((stat.S_ISDIR(os.fstat(number).st_mode), os.fstat(number).st_size > 0, recorded))
            real(number)

        monkeypatch.setattr(os, "fsync", fsync)
        sink.write([batch(PLACE, claim, 0)])
        assert synced == [(True, True, 0), (False, True, 0)]
        (level,) = sink.ledger._db.execute("PRAGMA synchronous").fetchone()
        assert level == 2  # FULL: the record itself is on the disk when the write returns

    def test_a_failed_fsync_is_not_tried_again_on_the_same_file(self, sink, monkeypatch):
        claim = self.begun(sink, PLACE)[PLACE]
        assert sink._files
        monkeypatch.setattr(os, "fsync", lambda _: (_ for _ in ()).throw(OSError(5, "Input/output error")))
        with pytest.raises(SinkUnavailable):
            sink.write([batch(PLACE, claim, 0)])
        monkeypatch.undo()
        assert not sink._files
        sink.write([batch(PLACE, claim, 0)])
        assert self.stored() == [(0, 0)]

    def test_a_full_disk_stores_nothing_and_is_waited_for(self, sink, monkeypatch):
        claim = self.begun(sink, PLACE)[PLACE]
        real = os.write

        def short(number: int, data: memoryview) -> int:
            if number not in sink._files.values():
                return real(number, data)
            if len(data) < 100:
                raise OSError(28, "No space left on device")
            return real(number, data[: len(data) // 2])

        monkeypatch.setattr(os, "write", short)
        with pytest.raises(SinkUnavailable, match="No space left"):
            sink.write([batch(PLACE, claim, 0, 1)])
        monkeypatch.undo()
        sink.write([batch(PLACE, claim, 0, 1)])
        assert self.stored() == [(0, 0), (0, 1)]

    def test_a_short_write_is_gone_on_with(self, sink, monkeypatch):
        claim = self.begun(sink, PLACE)[PLACE]
        real = os.write
        monkeypatch.setattr(os, "write", lambda number, data: real(number, data[:7]))
        sink.write([batch(PLACE, claim, 0)])
        assert self.stored() == [(0, 0)]

    @pytest.mark.parametrize("step", ["_append", "transaction"])
    @pytest.mark.parametrize("when", ["before", "after"])
    def test_kill_9_at_each_step_loses_and_doubles_nothing(self, sink, step, when):
        claim = self.begun(sink, PLACE)[PLACE]
        sink.write([batch(PLACE, claim, 0)])
        sink.close()
        code = subprocess.run(
            [sys.executable, "-c", KILLED, str(self.path), step, when, str(claim.generation)],
            check=False,
            cwd=Path(__file__).parents[2],
        ).returncode
        assert code == -signal.SIGKILL
        sink.open()
        claim = sink.claim([PLACE])[PLACE]
        recorded = (step, when) == ("transaction", "after")
        assert claim.next_offset == (2 if recorded else 1)
        if not recorded:
            sink.write([batch(PLACE, claim, 1)])
        assert self.stored() == [(0, 0), (0, 1)]

    # Clearing at the start of the server.

    def test_a_start_empties_the_file_once_and_keeps_the_position(self, sink):
        claim = self.begun(sink, PLACE)[PLACE]
        sink.write([batch(PLACE, claim, 0)])
        sink.close()
        self.make().announce("first")
        assert self.text() == ""
        sink.open()
        claim = sink.claim([PLACE])[PLACE]
        assert claim.next_offset == 1
        sink.write([batch(PLACE, claim, 1)])
        sink.close()
        self.make().announce("first")  # another worker of the same server, or one that was restarted
        assert self.stored() == [(0, 1)]
        self.make().announce("second")
        assert self.text() == ""

    def test_the_files_owner_empties_it_when_the_server_starts_elsewhere(self, sink):
        claim = self.begun(sink, PLACE)[PLACE]
        sink.write([batch(PLACE, claim, 0)])
        self.make().announce("first")
        assert self.stored() == [(0, 0)]
        sink.tick()
        assert self.text() == ""
        sink.write([batch(PLACE, claim._replace(next_offset=1), 1)])
        assert self.stored() == [(0, 1)]

    def test_a_crash_between_recording_and_truncating_still_empties_it(self, sink):
        claim = self.begun(sink, PLACE)[PLACE]
        sink.write([batch(PLACE, claim, 0)])
        sink.ledger.want("first")
        assert sink.ledger.clear()
        sink.close()
        assert self.stored() == [(0, 0)]
        sink.open()
        assert self.text() == ""


class TestJsonLines(SinkContract):
    @pytest.fixture(autouse=True)
    def _folder(self, tmp_path):
        self.path = tmp_path / "messages.jsonl"

    def make(self):
        return JsonLinesSink("group", path=self.path)

    def stored(self):
        lines = self.path.read_bytes().splitlines() if self.path.exists() else []
        return [(row["partition"], row["offset"]) for row in map(msgspec.json.decode, lines)]

    def test_a_line_has_what_the_stored_message_has(self, sink):
        self.test_every_kind_of_message(sink)
        rows = [msgspec.json.decode(line) for line in self.path.read_bytes().splitlines()]
        first = {"topic": "orders", "partition": 0, "offset": 0, "timestamp": 1_700_000_000_000}
        assert rows[0] == {**first, "key": "k", "value": None, "headers": []}
        assert rows[1]["value"] == "grüße 🎉"
        assert (rows[2]["value"], rows[2]["encoding"], rows[2]["key"], rows[2]["key_encoding"]) == (
            "AP8=",
            "base64",
            "/g==",
            "base64",
        )
        assert rows[3]["headers"] == [
            {"name": "a", "value": "b"},
            {"name": "n", "value": None},
            {"name": "x", "value": "/w==", "encoding": "base64"},
        ]
        assert rows[5]["timestamp"] is None


class TestAFileAPartition(SinkContract):
    @pytest.fixture(autouse=True)
    def _folder(self, tmp_path):
        self.folder = tmp_path
        self.options = {}

    def make(self):
        return JsonLinesSink("group", path=self.folder / "{topic}-{partition}.jsonl", **self.options)

    def stored(self):
        rows = []
        for path in sorted(self.folder.glob("orders-?.jsonl*")):
            rows += [msgspec.json.decode(line) for line in path.read_bytes().splitlines()]
        return [(row["partition"], row["offset"]) for row in rows]

    def test_each_partition_has_its_file(self, sink):
        self.test_batches_are_stored_and_positions_advance(sink)
        assert len((self.folder / "orders-0.jsonl").read_text().splitlines()) == 2
        assert len((self.folder / "orders-1.jsonl").read_text().splitlines()) == 1

    def test_what_was_never_recorded_is_cut_off_a_new_file_too(self, sink):
        claim = self.begun(sink, PLACE)[PLACE]
        append = sink._append

        def die(*arguments: object) -> None:
            append(*arguments)
            raise KeyboardInterrupt

        sink._append = die
        with pytest.raises(KeyboardInterrupt):
            sink.write([batch(PLACE, claim, 0)])
        sink.close()
        assert self.stored() == [(0, 0)]
        sink.open()
        assert self.stored() == []

    def test_two_processes_write_side_by_side(self, sink):
        claims = self.begun(sink, PLACE, OTHER)
        second = self.make()
        second.open()
        taken = second.claim([OTHER])[OTHER]
        sink.write([batch(PLACE, claims[PLACE], 0)])
        second.write([batch(OTHER, taken, 0)])
        with pytest.raises(StaleOwner):
            sink.write([batch(OTHER, claims[OTHER], 0)])
        second.close()
        assert self.stored() == [(0, 0), (1, 0)]

    def test_a_full_file_is_put_aside_by_whoever_writes(self, sink):
        claim = self.begun(sink, PLACE)[PLACE]
        self.options = {"max_bytes": 150}
        second = self.make()
        second.open()
        for offset in range(3):  # by turns, each with the file open
            sink.write([batch(PLACE, claim, offset)])
            claim = second.claim([PLACE])[PLACE]
            second.write([batch(PLACE, claim, offset + 10)])
            claim = sink.claim([PLACE])[PLACE]
        second.close()
        names = sorted(path.name for path in self.folder.glob("orders-0.jsonl*"))
        assert names == ["orders-0.jsonl", *(f"orders-0.jsonl.00000{n}" for n in (1, 2, 3))]
        assert self.stored() == [(0, 0), (0, 10), (0, 1), (0, 11), (0, 2), (0, 12)]

    def test_a_crash_before_or_after_the_renaming_puts_it_aside_once(self, sink, monkeypatch):
        claim = self.begun(sink, PLACE)[PLACE]
        sink.close()
        self.options = {"max_bytes": 1}
        full = self.make()
        full.open()
        monkeypatch.setattr(full, "_cut", lambda names: None)  # killed before
        full.write([batch(PLACE, claim, 0)])
        full.close()
        monkeypatch.undo()
        path = self.folder / "orders-0.jsonl"
        path.rename(self.folder / "orders-0.jsonl.000001")  # killed after
        sink.open()
        assert path.read_bytes() == b""
        sink.write([batch(PLACE, claim._replace(next_offset=1), 1)])
        assert sorted(self.stored()) == [(0, 0), (0, 1)]

    def test_a_file_is_put_aside_when_it_is_old(self, sink):
        claim = self.begun(sink, PLACE)[PLACE]
        sink.close()
        self.options = {"max_seconds": 0}
        old = self.make()
        old.open()
        old.write([batch(PLACE, claim, 0)])
        old.close()
        assert (self.folder / "orders-0.jsonl.000001").exists()

    def test_a_topic_with_the_name_of_what_lies_beside_is_a_file_like_any_other(self):
        for ending in (".positions", ".lock", ".positions-wal"):
            place = Place(f"topic-0{ending}", "id-1", 0)
            sink = JsonLinesSink("group", path=self.folder / "{topic}")
            sink.open()
            claim = self.begun(sink, place)[place]
            sink.write([batch(place, claim, 0)])
            sink.close()
            assert msgspec.json.decode((self.folder / place.topic).read_bytes())["offset"] == 0

    @pytest.mark.parametrize("name", ["{host}.jsonl", "{partition}/x.jsonl", "{.jsonl", "{topic!r}.jsonl"])
    def test_other_templates_are_refused(self, name):
        with pytest.raises(ImproperlyConfigured):
            JsonLinesSink("group", path=self.folder / name)


KILLED = """
import contextlib, os, signal, sys
sys.path.insert(0, ".")
from tests.sink_contract import PLACE, batch
from tkcons.sinks.base import Claim
from tkcons.sinks.file import TextFileSink

path, step, when, generation = sys.argv[1:]
sink = TextFileSink("group", path=path)
sink.open()
def die():
    os.kill(os.getpid(), signal.SIGKILL)

if step == "_append":
    real = sink._append
    def killed(*arguments):
        if when == "after":
            real(*arguments)
        die()
    sink._append = killed
else:
    real = sink.ledger.transaction
    @contextlib.contextmanager
    def killed():
        with real():
            yield
            if when == "before":
                die()
        die()
    sink.ledger.transaction = killed
sink.write([batch(PLACE, Claim(int(generation), 1), 1)])
"""
