"""Store the messages of consumer groups, in the foreground."""

import logging
import os
import signal
import sys
import threading
import time
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from tk import collector
from tkcons import groups
from tkcons.conf import settings
from tkcons.errors import UnknownGroup
from tkcons.groups import Heartbeat, Spec
from tkcons.processes import Children
from tkcons.runner import Runner

logger = logging.getLogger(__name__)


class Command(BaseCommand):
    help = (
        "Stores and handles messages until SIGTERM or Ctrl-C: every group of TKCONS['SINKS'] and of the handlers, or those "
        "named."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("groups", nargs="*", metavar="GROUP", help="a group's name; default: all")
        parser.add_argument("--processes", type=int, default=1, help="processes that share the work (default 1)")
        parser.add_argument(
            "--metrics-port",
            type=int,
            help="serve Prometheus' figures there; with --processes, each child on the next port",
        )
        parser.add_argument("--metrics-address", default="127.0.0.1", help="where to serve them (default 127.0.0.1)")
        parser.add_argument("--child", type=int, help="set by --processes: this process's number")
        parser.add_argument("--supervisor", type=int, help="set by --processes: the process that this one ends with")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            specs = [groups.spec(name) for name in options["groups"]] or list(groups.specs().values())
        except UnknownGroup as error:
            raise CommandError(str(error)) from error
        if not specs:
            raise CommandError(
                "There is no group: name a sink in TKCONS['SINKS'], or write a handler in kafka_handlers.py."
            )
        if options["processes"] > 1:
            Children([self._child(number, options) for number in range(options["processes"])]).run()
        else:
            if options["metrics_port"]:
                _serve_metrics(options["metrics_port"], options["metrics_address"])
            self._run(specs, options["child"], options["supervisor"])

    def _child(self, number: int, options: dict[str, Any]) -> list[str]:
        command = [sys.executable, sys.argv[0], "consume", *options["groups"]]
        # Its id is told, not asked for: the supervisor may be gone before the child has come so far.
        command += ["--child", str(number), "--supervisor", str(os.getpid())]
        if options["metrics_port"]:
            command += ["--metrics-port", str(options["metrics_port"] + number)]
            command += ["--metrics-address", options["metrics_address"]]
        return command

    def _run(self, specs: list[Spec], child: int | None, supervisor: int | None) -> None:
        host = settings.HOST_ID
        runners = [
            Runner(
                spec,
                Heartbeat(spec.name, in_web=False),
                static_id=f"{host}-{child or 0}" if host else "",
                on_hang=_exit,
            )
            for spec in specs
        ]
        collector.spare()
        ending = threading.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: ending.set())
        threads = [threading.Thread(target=runner.run, name=runner.spec.name, daemon=True) for runner in runners]
        for thread in threads:
            thread.start()
        self.stdout.write(f"Consuming: {', '.join(spec.name for spec in specs)}. Ctrl-C ends it.")
        self.stdout.flush()  # to a pipe, too, it is said at once
        while not ending.wait(0.5):
            if supervisor is not None and os.getppid() != supervisor:  # killed: nobody else would end this process
                ending.set()
            if not all(thread.is_alive() for thread in threads):
                break
        for runner in runners:
            runner.stop()
        deadline = time.monotonic() + settings.STOP_SECONDS + 5
        for thread in threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        if not ending.is_set():
            raise CommandError("A runner ended by itself: its last words are in the log.")


def _serve_metrics(port: int, address: str) -> None:
    try:
        from prometheus_client import start_http_server
    except ImportError as error:
        raise CommandError("--metrics-port needs prometheus-client: pip install 'tutorialkafka[metrics]'.") from error
    try:
        start_http_server(port, address)
    except OSError as error:
        raise CommandError(f"--metrics-port {port} on {address}: {error}") from error


def _exit() -> None:
    """End at once, without waiting for what hangs: its transaction is rolled back, its try is on record."""
    logger.critical("a handler or a poll hangs: this process ends", extra={"action": "consume"})
    logging.shutdown()
    os._exit(1)
