"""Remove stored messages that are old."""

from argparse import ArgumentParser
from datetime import timedelta
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.db import connections, router
from django.utils import timezone

from tkcons import deadletters, retention
from tkcons.models import Message


class Command(BaseCommand):
    help = (
        "Removes messages that were stored more than --days ago, for a nightly job. On PostgreSQL it drops whole days "
        "(UTC). The audit counts them as pruned. Dead letters settled before that time go too."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--days", type=int, required=True, help="keep messages of so many days")
        parser.add_argument("--database", help="the database alias (default: where messages are written)")

    def handle(self, *args: Any, **options: Any) -> None:
        using = options["database"] or router.db_for_write(Message)
        if using not in connections:
            raise CommandError(f"There is no database {using!r}.")
        if options["days"] < 0:
            raise CommandError("--days is 0 or more.")
        before = timezone.now() - timedelta(days=options["days"])
        removed, letters = retention.prune(before, using), deadletters.prune(before, using)
        self.stdout.write(f"Removed {removed} messages and {letters} settled dead letters.")
