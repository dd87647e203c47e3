"""Send a file or a pipe to a topic."""

import sys
from argparse import ArgumentParser
from itertools import count, islice, takewhile
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from tk import collector, lines, table, topics
from tk.errors import TkError
from tk.pipeline import Flight, sending
from tk.source import Progress, Source

SHOWN = 20  # errors that are listed; the rest is counted


class Command(BaseCommand):
    help = (
        "Sends each record of FILE (default: standard input) to TOPIC and tells what the brokers have confirmed. "
        "Exit code 1: a record failed; 130: Ctrl-C."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("topic")
        parser.add_argument("file", nargs="?", default="-")
        parser.add_argument(
            "--format",
            choices=["lines", "ndjson", "csv"],
            default="lines",
            help='lines (default): a value each. ndjson: {"value": ..., "key": ..., "headers": {...}, "partition": ..., '
            '"timestamp": ...}. csv: a line of names first; a value is the row as a JSON object',
        )
        parser.add_argument("--key-column", default="", help="csv: the column that is the key")
        parser.add_argument("--value-column", default="", help="csv: the column that is the value, as it is")

    def handle(self, *args: Any, **options: Any) -> None:
        key, value, form = options["key_column"], options["value_column"], options["format"]
        if form != "csv" and (key or value):
            raise CommandError("--key-column and --value-column go with --format csv.")
        collector.spare()
        try:
            topics.get(options["topic"])
            with Source(options["file"]) as source:
                if form == "csv":
                    rows = table.Rows(source.text(), options["topic"], key, value)
                    self._send(source, rows, rows.numbers())
                else:
                    parse = lines.texts if form == "lines" else lines.objects
                    self._send(source, lines.windows(source.pieces(), lines.lines, parse, options["topic"]), count(1))
        except (TkError, OSError) as error:
            raise CommandError(str(error)) from error

    def _send(self, source: Source, windows: Any, numbers: Any) -> None:
        """numbers: of the records' lines."""
        records = failed = 0
        with Progress(sys.stderr, source) as progress:
            # After Ctrl-C no window is taken any more: it may end in half a line.
            for flight in sending(takewhile(lambda _: not source.interrupted, windows), telling="errors"):
                self._list(flight, list(islice(numbers, flight.size)), failed)
                records += flight.size
                failed += len(flight.failures)
                progress.show(records)
        self.stdout.write(f"{records - failed} confirmed, {failed} failed.")
        if source.interrupted:
            raise CommandError("Interrupted: what follows was not sent.", returncode=130)
        if failed:
            raise CommandError(f"{failed} of {records} records failed.")

    def _list(self, flight: Flight, numbers: list[int], failed: int) -> None:
        for number, error in sorted(flight.failures, key=lambda failure: failure[0])[: max(0, SHOWN - failed)]:
            self.stderr.write(f"line {numbers[number] if number >= 0 else '?'}: {error.code}: {error}")
        if failed <= SHOWN < failed + len(flight.failures):
            self.stderr.write("Further errors are counted only.")
