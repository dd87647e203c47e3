"""The sinks on real storage: SQLite, PostgreSQL, files."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from django.core.management import call_command
from django.db import connections

from tests.sink_contract import PLACE, SinkContract, batch
from tkcons.errors import SinkDamaged, SinkLocked, SinkUnavailable
from tkcons.models import Message, Position
from tkcons.sinks import DatabaseSink, TextFileSink


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

    def test_a_row_that_is_there_already_is_damage_and_stores_nothing(self, sink):
        claim = self.begun(sink, PLACE)[PLACE]
        sink.write([batch(PLACE, claim, 0)])
        Position.objects.using(self.alias).update(next_offset=0)
        with pytest.raises(SinkDamaged):
            sink.write([batch(PLACE, claim, 0, 1)])
        assert self.stored() == [(0, 0)]


@pytest.mark.django_db(transaction=True)
class TestOnSQLite(DatabaseContract):
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


@pytest.fixture(scope="session")
def postgres_alias(postgres, django_db_setup, django_db_blocker):
    """A second database of the project, on the real server."""
    import dj_database_url

    with django_db_blocker.unblock():
        given = dj_database_url.parse(postgres.url)
        connections.databases["postgres"] = {**connections.databases["default"], **given, "OPTIONS": {}}
        connections.databases["postgres"]["TEST"] = {**connections.databases["default"]["TEST"], "NAME": None}
        call_command("migrate", database="postgres", verbosity=0)
        yield "postgres"
        connections["postgres"].close()
        del connections.databases["postgres"]


class TestOnPostgres(DatabaseContract):
    alias = "postgres"

    @pytest.fixture(autouse=True)
    def _empty(self, postgres_alias, django_db_blocker):
        with django_db_blocker.unblock():  # the mark django_db knows the databases of the settings alone
            yield
            Message.objects.using(self.alias).all().delete()
            Position.objects.using(self.alias).all().delete()

    def test_a_restarted_server_is_waited_for(self, sink, postgres):
        claim = self.begun(sink, PLACE)[PLACE]
        postgres.kill()
        with pytest.raises(SinkUnavailable):
            sink.write([batch(PLACE, claim, 0)])
        postgres.start()
        connections["postgres"].close()  # what the worker does between tries
        sink.write([batch(PLACE, claim, 0)])
        assert self.stored() == [(0, 0)]


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

    def test_a_symlink_in_its_place_is_not_followed(self, tmp_path):
        self.path.parent.mkdir()
        (tmp_path / "target").touch()
        self.path.symlink_to(tmp_path / "target")
        with pytest.raises(SinkUnavailable):
            self.make().open()

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
