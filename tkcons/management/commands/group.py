"""Look at consumer groups and steer them."""

from argparse import ArgumentParser
from datetime import datetime
from typing import Any

from confluent_kafka import KafkaException
from django.core.management.base import BaseCommand, CommandError
from django.utils import timezone

from tk.access import CODE
from tk.errors import TkError
from tkcons import expired, groups, seeking
from tkcons.errors import TkconsError
from tkcons.models import Group
from tkcons.seeking import Target

STATES = {"start": Group.State.RUNNING, "pause": Group.State.PAUSED, "stop": Group.State.STOPPED}


class Command(BaseCommand):
    help = (
        "Shows groups (status), sets the state that every process which runs them obeys (start, pause, stop), moves "
        "stopped groups past messages that Kafka deleted before they were stored (skip), to the beginning (reset), or to "
        "any place (seek)."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("action", choices=("status", *STATES, "skip", "reset", "seek"))
        parser.add_argument("groups", nargs="*", metavar="GROUP", help="a group's name; default: all")
        parser.add_argument("--to", help="seek: earliest, latest, an offset, or a time (2026-01-31T12:00+01:00)")
        parser.add_argument("--topic", help="seek, reset: this topic alone")
        parser.add_argument("--partition", type=int, help="seek, reset: this partition alone")

    def handle(self, *args: Any, **options: Any) -> None:
        names = options["groups"] or None
        try:
            if options["action"] == "status":
                self._status(names)
            elif options["action"] == "skip":
                self._skip(names)
            elif options["action"] in {"reset", "seek"}:
                self._move(names, options)
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

    def _move(self, names: list[str] | None, options: dict[str, Any]) -> None:
        if names is None:
            raise CommandError("Name the groups that shall be moved.")
        target = _target(options["to"]) if options["action"] == "seek" else "earliest"
        for name in names:
            moved = seeking.move(name, target, CODE, topic=options["topic"], partition=options["partition"])
            for place, (old, new) in moved.items():
                self.stdout.write(f"{name}: {place.topic}[{place.partition}]: from {old} to {new}")

    def _status(self, names: list[str] | None) -> None:
        for name in names or []:
            groups.spec(name)
        for group in groups.status():
            if names is None or group["group"] in names:
                lag = "not known" if group["lag"] is None else group["lag"]
                self.stdout.write(f"{group['group']}: wanted {group['desired']}, lag {lag}")
                for member in group["members"]:
                    self.stdout.write(f"  {member['name']}: {member['state']}, stored {member['stored']}")
                    for row in member["partitions"]:
                        where = f"{row['topic']}[{row['partition']}]"
                        self.stdout.write(
                            f"    {where}: position {row['position']}, end {row['end']}, lag {row['lag']}"
                        )
                    if member["error"]:
                        self.stdout.write(self.style.ERROR(f"    {member['error']}"))


def _target(text: str | None) -> Target:
    if text is None:
        raise CommandError("Say where: --to earliest, latest, an offset, or a time.")
    if text in {"earliest", "latest"}:
        return text
    if text.isascii() and text.isdigit():
        return int(text)
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        raise CommandError(f"--to {text}: neither earliest, latest, an offset nor a time in ISO 8601.") from None
    return time if time.tzinfo is not None else timezone.make_aware(time)
