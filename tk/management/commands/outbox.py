"""See how the outbox stands; have failed events sent again, or discard them."""

from argparse import ArgumentParser
from typing import Any
from uuid import UUID

from django.core.management.base import BaseCommand, CommandError
from django.db import connections, router

from tk import upkeep
from tk.access import CODE
from tk.errors import TkError
from tk.models import OutboxEvent


class Command(BaseCommand):
    help = (
        "Tells what waits, the relays and their shares (status), lists failed events (failed), has them sent again (resend) "
        "or gives them up, so that what comes after them in their keys is sent (discard)."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("action", choices=("status", "failed", "resend", "discard"), nargs="?", default="status")
        parser.add_argument("events", nargs="*", metavar="EVENT_ID", type=UUID)
        parser.add_argument("--topic", help="failed events of this topic")
        parser.add_argument("--all", action="store_true", help="resend, discard: every failed event (of the topic)")
        parser.add_argument("--limit", type=int, default=100, help="failed: so many, oldest first (default 100)")
        parser.add_argument("--database", help="the alias of the outbox's database; default: as the router says")

    def handle(self, *args: Any, **options: Any) -> None:
        using = options["database"] or router.db_for_write(OutboxEvent)
        if using not in connections:
            raise CommandError(f"There is no database {using!r}.")
        if options["action"] == "status":
            self._status(using)
            return
        events = upkeep.failed(using, options["topic"]).defer("value")
        if options["events"]:
            events = events.filter(event_id__in=options["events"])
        if options["action"] == "failed":
            for event in events[: options["limit"]]:
                self.stdout.write(
                    f"{event.event_id}  {event.created_at:%Y-%m-%d %H:%M:%S}  {event.topic}  {event.error}"
                )
            return
        if not options["events"] and not options["all"]:
            raise CommandError(f"Name the events to {options['action']}, or say --all.")
        change = upkeep.resend if options["action"] == "resend" else upkeep.discard
        try:
            count = change(list(events.values_list("pk", flat=True)), CODE, using)
        except TkError as error:
            raise CommandError(str(error)) from error
        self.stdout.write(f"{count} events: {options['action']}.")

    def _status(self, using: str) -> None:
        status = upkeep.status(using)
        oldest = "" if status.oldest_seconds is None else f", the oldest for {status.oldest_seconds:.1f} s"
        self.stdout.write(f"waiting: {_number(status.waiting)}{oldest}")
        self.stdout.write(f"failed: {_number(status.failed)}")
        for name, shards in status.relays.items():
            self.stdout.write(f"relay {name}: {shards} shards")
        if not status.relays:
            self.stdout.write("no relay runs: start manage.py relay")


def _number(count: int) -> str:
    return f"at least {count}" if count == upkeep.COUNTED else str(count)
