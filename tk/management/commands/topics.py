"""Look at the cluster's topics; make and delete them."""

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from tk import clusters, sizes
from tk.access import CODE
from tk.errors import TkError


class Command(BaseCommand):
    help = (
        "Lists topics with partitions, replication, offsets and sizes (list; with names also partitions and configuration), "
        "makes one (create), or deletes some with all their messages (delete)."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("action", choices=("list", "create", "delete"))
        parser.add_argument("names", nargs="*", metavar="TOPIC", help="a topic's name; list: default all")
        parser.add_argument("--partitions", type=int, default=-1, help="create: default as the brokers say")
        parser.add_argument("--replication", type=int, default=-1, help="create: default as the brokers say")
        parser.add_argument(
            "--config", action="append", default=[], metavar="NAME=VALUE", help=f"create: {', '.join(clusters.CONFIG)}"
        )
        parser.add_argument(
            "--noinput", "--no-input", action="store_false", dest="interactive", help="delete: do not ask for the name"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        names: list[str] = options["names"]
        if options["action"] != "list" and not names:
            raise CommandError(f"Name the topics to {options['action']}.")
        try:
            match options["action"]:
                case "list":
                    self._list(names)
                case "create":
                    self._create(names, options)
                case _:
                    self._delete(names, interactive=options["interactive"])
        except TkError as error:
            raise CommandError(str(error)) from error

    def _list(self, names: list[str]) -> None:
        found, why = sizes.measure(clusters.describe(names or clusters.names()))
        if why is not None:
            self.stderr.write(f"Sizes: {why}.")
        for topic in found:
            self.stdout.write(
                f"{topic.name}: {len(topic.partitions)} partitions, replication {topic.replication}, "
                f"at most {_known(topic.records)} messages, {_known(topic.size)} bytes (all copies {_known(topic.copies)})"
            )
            if names:
                self._show(topic)
        if missing := sorted(set(names) - {topic.name for topic in found}):
            raise CommandError(f"The broker has no topic {', '.join(missing)}.")

    def _show(self, topic: clusters.Described) -> None:
        for p in topic.partitions:
            self.stdout.write(
                f"  [{p.number}] offsets {_known(p.low)} to {_known(p.high)}, leader {_known(p.leader)}, "
                f"replicas {_numbers(p.replicas)}, in sync {_numbers(p.in_sync)}, {_known(p.size)} bytes"
            )
        for option in clusters.configuration(topic.name):
            if option.own:
                self.stdout.write(f"  {option.name}={option.value}")

    def _create(self, names: list[str], options: dict[str, Any]) -> None:
        config = dict(_pair(text) for text in options["config"])
        for name in names:
            made = clusters.create(
                name, CODE, partitions=options["partitions"], replication=options["replication"], config=config
            )
            self.stdout.write(f"{made.name}: created")

    def _delete(self, names: list[str], *, interactive: bool) -> None:
        for name in names:
            if (
                interactive
                and input(f"Every message in {name} will be lost. Type the topic's name to delete it: ") != name
            ):
                raise CommandError(f"{name}: not deleted.")
            clusters.delete(name, CODE)
            self.stdout.write(f"{name}: deleted")


def _pair(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals:
        raise CommandError(f"--config {text}: write NAME=VALUE.")
    return name, value


def _known(number: int | None) -> str:
    return "?" if number is None else str(number)


def _numbers(numbers: tuple[int, ...]) -> str:
    return ",".join(map(str, numbers))
