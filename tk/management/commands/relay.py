"""Send the outbox to Kafka, in the foreground."""

import signal
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand

from tk import collector
from tk.relay import Relay


class Command(BaseCommand):
    help = "Sends what publish() has committed, until SIGTERM or Ctrl-C. Run as many as you like."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--once", action="store_true", help="send what waits, then end")
        parser.add_argument("--database", help="the alias of the outbox's database; default: as the router says")

    def handle(self, *args: Any, **options: Any) -> None:
        collector.spare()
        relay = Relay(options["database"])
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: relay.stop())
        if not options["once"]:
            self.stdout.write("Relaying the outbox. Ctrl-C ends it.")
            self.stdout.flush()  # to a pipe, too, it is said at once
        relay.run(once=options["once"])
