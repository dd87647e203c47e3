"""Look at consumer groups and steer them."""

from argparse import ArgumentParser
from typing import Any

from confluent_kafka import KafkaException
from django.core.management.base import BaseCommand, CommandError

from tk.access import CODE
from tk.errors import TkError
from tkcons import expired, groups
from tkcons.errors import TkconsError
from tkcons.models import Group

STATES = {"start": Group.State.RUNNING, "pause": Group.State.PAUSED, "stop": Group.State.STOPPED}


class Command(BaseCommand):
    help = (
        "Shows groups (status), sets the state that every process which runs them obeys (start, pause, stop), or moves "
        "stopped groups past messages that Kafka deleted before they were stored (skip)."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("action", choices=("status", *STATES, "skip"))
        parser.add_argument("groups", nargs="*", metavar="GROUP", help="a group's name; default: all")

    def handle(self, *args: Any, **options: Any) -> None:
        names = options["groups"] or None
        try:
            if options["action"] == "status":
                self._status(names)
            elif options["action"] == "skip":
                self._skip(names)
            else:
                state = STATES[options["action"]]
                for name in groups.want(state, CODE, names):
                    self.stdout.write(f"{name}: wanted {state.value}")
        except (TkError, TkconsError, KafkaException) as error:
            raise CommandError(str(error)) from error

    def _skip(self, names: list[str] | None) -> None:
        if names is None:
            raise CommandError("Name the groups that shall go on past what they have lost.")
        for name in names:
            for place, (first, end) in expired.skip(name, CODE).items():
                where = f"{place.topic}[{place.partition}]"
                self.stdout.write(f"{name}: {where}: offsets {first} to {end - 1} were lost, goes on at {end}")

    def _status(self, names: list[str] | None) -> None:
        for name in names or []:
            groups.spec(name)
        for group in groups.status():
            if names is None or group["group"] in names:
                self.stdout.write(f"{group['group']}: wanted {group['desired']}, lag {group['lag']}")
                for member in group["members"]:
                    self.stdout.write(f"  {member['name']}: {member['state']}, stored {member['stored']}")
                    for row in member["partitions"]:
                        where = f"{row['topic']}[{row['partition']}]"
                        self.stdout.write(
                            f"    {where}: position {row['position']}, end {row['end']}, lag {row['lag']}"
                        )
                    if member["error"]:
                        self.stdout.write(self.style.ERROR(f"    {member['error']}"))
