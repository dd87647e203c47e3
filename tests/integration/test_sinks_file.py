"""The sinks that write files: text and JSON Lines, killed between any two steps."""

import os
import re
import signal
import sqlite3
import stat
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import msgspec
import pytest
from django.core.exceptions import ImproperlyConfigured

from tests.sink_contract import OTHER, PLACE, SinkContract, batch
from tkcons.errors import SinkDamaged, SinkLocked, SinkUnavailable, StaleOwner
from tkcons.sinks import JsonLinesSink, TextFileSink
from tkcons.sinks.base import Place


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
        assert sink.ledger.clear(sink.name)
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
