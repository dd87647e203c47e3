"""Prove that nothing was lost and nothing stored twice."""

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.db import connections, router

from tk.errors import TkError
from tkcons.audit import GONE, Report, audit, elsewhere
from tkcons.errors import TkconsError
from tkcons.models import Message


class Command(BaseCommand):
    help = (
        "Compares what Kafka serves with what the database sinks, and the file sinks of this host, have stored, "
        "offset by offset, partition by partition, up to each group's position. Exit code 1 when a message is missing, "
        "stored twice, or expired unread. Groups may run meanwhile; prunemessages may not."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("topic", nargs="?", help="default: all")
        parser.add_argument("--database", help="this database alone (default: where messages are written, and files)")

    def handle(self, *args: Any, **options: Any) -> None:
        using = options["database"] or router.db_for_write(Message)
        if using not in connections:
            raise CommandError(f"There is no database {using!r}.")
        reports = []
        try:
            for report in audit(using, options["topic"], files=options["database"] is None):
                reports.append(report)
                self._tell(report)
        except (TkError, TkconsError) as error:
            raise CommandError(str(error)) from error
        if options["database"] is None:
            for group in elsewhere():
                self.stdout.write(f"{group}: its files are not on this host, and not compared")
        if not reports:
            raise CommandError("No group has a position there: nothing was compared.")
        bad = sum(not report.good for report in reports)
        if bad:
            raise CommandError(f"{bad} of {len(reports)} partitions are not as Kafka has them.")
        compared = sum(not report.why_not for report in reports)
        self.stdout.write(f"{compared} of {len(reports)} partitions compared: nothing missing, nothing twice.")

    def _tell(self, report: Report) -> None:
        position = report.position
        where = (
            f"{position.group} {position.topic}[{position.partition}] {position.start_offset}-{position.next_offset}"
        )
        line = (
            f"{where}: stored {report.stored}, missing {report.missing}, duplicate {report.duplicate}, "
            f"expired unread {report.expired_unread}, accounted {report.accounted}, unserved {report.unserved}"
        )
        if not position.stores:
            line = (
                f"{where}: handled, waiting {report.waiting}, expired unread {report.expired_unread}, "
                f"dead letters waiting {report.dead_letters}"
            )
        elif report.why_not:
            counted = f"stored {report.stored}, duplicate {report.duplicate}, " if report.why_not == GONE else ""
            line = f"{where}: {counted}expired unread {report.expired_unread}; {report.why_not}"
        for what, named in (("missing", report.missing_offsets), ("twice", report.duplicate_offsets)):
            if named:
                line += f"; {what}: {', '.join(map(str, named))}"
        self.stdout.write(line if report.good else self.style.ERROR(line))
