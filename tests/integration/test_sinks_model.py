"""The sinks that store against the model of a sink."""

import json
import re
import shutil
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis.stateful import run_state_machine_as_test

from tests.integration.sink_model import SETTINGS, Machine, Patched, crash_at
from tkcons.models import Gap, Message, Position, SeenEvent
from tkcons.sinks import DatabaseSink, JsonLinesSink, TextFileSink
from tkcons.sinks.base import Place, Sink

LINE = re.compile(r"ConsumerRecord\(topic='(.+?)', partition=(\d+), offset=(\d+), .* key=b'(.+?)', .*\)<br>$")

pytestmark = pytest.mark.timeout(600)


class DatabaseMachine(Machine):
    alias = "default"

    def make(self) -> Sink:
        return DatabaseSink("group", using=self.alias)

    def read(self) -> dict[Place, list[int]]:
        found: dict[Place, list[int]] = {}
        rows = Message.objects.using(self.alias).select_related("position").order_by("pk")
        for row in rows:
            at = row.position
            found.setdefault(Place(at.topic, at.topic_id, at.partition), []).append(row.offset)
        return found

    def crashing(self, sink: Sink, where: str) -> Any:
        """Before the rows are written, or after them, the position having moved: the transaction is rolled back."""
        from tkcons.sinks import database

        return Patched(database, "_copy" if self.alias == "postgres" else "_insert", crash_at(where))

    def clean(self) -> None:
        for model in (Message, SeenEvent, Gap, Position):
            model.objects.using(self.alias).all().delete()


class PostgresMachine(DatabaseMachine):
    alias = "postgres"


class FileMachine(Machine):
    goes_back = False

    def prepare(self) -> None:
        self.folder = Path(tempfile.mkdtemp())

    def make(self) -> Sink:
        return JsonLinesSink("group", path=self.folder / "messages-{partition}.jsonl")

    def read(self) -> dict[Place, list[int]]:
        """Files know no topic id: both topics of one name are in one file, told apart by the key."""
        found: dict[Place, list[int]] = {}
        for path in self.folder.glob("*.jsonl"):
            for line in path.read_text().splitlines():
                row = json.loads(line)
                place = Place(row["topic"], row["key"], row["partition"])
                found.setdefault(place, []).append(row["offset"])
        return found

    def crashing(self, sink: Sink, where: str) -> Any:
        """Before the append, or after it and its fsync, nothing being recorded."""
        return Patched(sink, "_append", crash_at(where))

    def vanish(self, sink: Sink) -> None:
        sink.close()

    def clean(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)


class TextMachine(FileMachine):
    """The tutorial's lines; a file a partition, for two to write at once."""

    def make(self) -> Sink:
        return TextFileSink("group", path=self.folder / "messages-{partition}.txt")

    def read(self) -> dict[Place, list[int]]:
        found: dict[Place, list[int]] = {}
        for path in self.folder.glob("*.txt"):
            for line in path.read_text().splitlines():
                topic, partition, offset, key = LINE.match(line).groups()
                found.setdefault(Place(topic, key, int(partition)), []).append(int(offset))
        return found


@pytest.mark.django_db(transaction=True)
def test_the_database_sink_on_sqlite():
    run_state_machine_as_test(DatabaseMachine, settings=SETTINGS)


def test_the_database_sink_on_postgresql(postgres_alias, django_db_blocker):
    with django_db_blocker.unblock():
        run_state_machine_as_test(PostgresMachine, settings=SETTINGS)


@pytest.mark.parametrize("machine", [FileMachine, TextMachine])
def test_a_file_sink(machine):
    run_state_machine_as_test(machine, settings=SETTINGS)
