"""Run PostgreSQL on this machine."""

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from tklocal import paths
from tklocal.errors import StartFailed, TklocalError
from tklocal.postgres import Postgres
from tklocal.waiting import Ending


class Command(BaseCommand):
    help = "Runs PostgreSQL in the foreground. Ctrl-C ends it."
    requires_system_checks = []

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--port", type=int, default=5432, help="default 5432; 0: a free one")
        parser.add_argument("--data", default=None, help="the folder for the database (default: postgres in DATA)")

    def handle(self, *args: Any, **options: Any) -> None:
        ending = Ending()
        try:
            with Postgres(paths.folder(options["data"], "postgres"), port=options["port"]) as server:
                self.stdout.write(f"PostgreSQL is ready: DATABASE_URL={server.url}. Ctrl-C ends it.")
                self.stdout.flush()
                while not ending.wait(0.2):
                    if not server.alive:
                        raise StartFailed(f"PostgreSQL ended. Its last words are in {server.data / 'log'}.")
        except TklocalError as error:
            raise CommandError(str(error)) from error
