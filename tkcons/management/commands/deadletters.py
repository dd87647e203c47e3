"""Look at dead letters; have them handled again, or discard them."""

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.db import connections, router
from django.db.models import QuerySet

from tk.access import CODE
from tkcons import deadletters
from tkcons.errors import TkconsError
from tkcons.models import DeadLetter


class Command(BaseCommand):
    help = (
        "Lists the dead letters that nobody has settled (list), shows them whole (show), has them handled again by their "
        "group's handler alone (resend), or gives them up (discard). Letters are chosen by id, or by --group and --topic."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("action", choices=("list", "show", "resend", "discard"))
        parser.add_argument("ids", nargs="*", metavar="ID")
        parser.add_argument("--group", help="those of this group")
        parser.add_argument("--topic", help="those of this topic")
        parser.add_argument("--search", help="those with this text in cause, key or value")
        parser.add_argument("--limit", type=int, default=100, help="list and show so many, newest first (default 100)")
        parser.add_argument("--database", help="the database alias (default: where messages are written)")

    def handle(self, *args: Any, **options: Any) -> None:
        using = options["database"] or router.db_for_write(DeadLetter)
        if using not in connections:
            raise CommandError(f"There is no database {using!r}.")
        letters = self._chosen(options, using)
        try:
            match options["action"]:
                case "list":
                    for letter in letters[: options["limit"]]:
                        self.stdout.write(_line(letter))
                case "show":
                    for letter in letters[: options["limit"]]:
                        self._show(letter)
                case action:
                    if not options["ids"] and not options["group"] and not options["topic"]:
                        raise CommandError(f"Name the letters to {action}: by id, --group or --topic.")
                    ids = list(letters.values_list("pk", flat=True))
                    change = deadletters.resend if action == "resend" else deadletters.discard
                    count = change(ids, CODE, using)
                    done = "will be handled again when their group runs" if action == "resend" else "discarded"
                    self.stdout.write(f"{count} dead letters: {done}.")
        except TkconsError as error:
            raise CommandError(str(error)) from error

    def _chosen(self, options: dict[str, Any], using: str) -> QuerySet[DeadLetter]:
        letters = deadletters.waiting(CODE, using)
        if options["ids"]:
            letters = letters.filter(pk__in=options["ids"])
        if options["group"]:
            letters = letters.filter(group=options["group"])
        if options["topic"]:
            letters = letters.filter(topic=options["topic"])
        if options["search"]:
            letters = letters.filter(deadletters.matches(options["search"]))
        return letters

    def _show(self, letter: DeadLetter) -> None:
        self.stdout.write(_line(letter))
        self.stdout.write(f"  timestamp {letter.timestamp}, key {_text(letter.key)}, headers {letter.headers}")
        self.stdout.write(f"  value {_text(letter.value)}")
        if letter.dead_topic:
            self.stdout.write(f"  sent to {letter.dead_topic}[{letter.dead_partition}]@{letter.dead_offset}")
        self.stdout.write("\n".join(map(_safe, letter.traceback.splitlines())))


def _line(letter: DeadLetter) -> str:
    where = f"{letter.topic}[{letter.partition}]@{letter.offset}"
    made = f"{letter.pk} {letter.made_at:%Y-%m-%d %H:%M:%S} {letter.group} {where}"
    return f"{made} {letter.state}, {letter.tries} tries: {_safe(letter.cause[:200])}"


def _text(value: Any) -> str:
    return "null" if value is None else repr(bytes(value))


def _safe(text: str) -> str:
    """Strangers' control characters do nothing to a terminal."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)
