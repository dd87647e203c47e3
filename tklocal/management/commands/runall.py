"""Run everything: what `make run` calls."""

import json
import os
import socket
import sys
import time
import urllib.error
import urllib.request
import uuid
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from tklocal import console, paths, terminal
from tklocal.errors import PortTaken, StartFailed, TklocalError
from tklocal.kafka import Cluster, cluster_id_at, taken
from tklocal.supervisor import Part, Supervisor, manage
from tklocal.waiting import Ending

HOST = "127.0.0.1"
READY_SECONDS = 120
DEATHS = 4  # of one part before everything has answered: it will not come up


class Command(BaseCommand):
    help = "Runs Apache Kafka, the web server and the consumer, restarts what dies; Ctrl-C ends all of it."
    requires_system_checks = []

    def add_arguments(self, parser: ArgumentParser) -> None:
        # argparse turns a default that is text into the type, and says so clearly where it is no number.
        parser.add_argument("--port", type=int, default=os.environ.get("PORT") or "8000", help="of the web server")
        parser.add_argument(
            "--kafka-port", type=int, default=os.environ.get("KAFKA_PORT") or "9092", help="of the broker"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        with terminal.foreground():
            self._run(options["port"], options["kafka_port"])

    def _run(self, port: int, kafka_port: int) -> None:
        ending = Ending()
        supervisor = Supervisor(sys.stdout)
        try:
            _check_free(port)
            self._start(supervisor, ending, port, kafka_port)
            while not ending.wait(0.2):
                supervisor.look()
        except TklocalError as error:
            raise CommandError(str(error)) from error
        except OSError as error:
            raise CommandError(f"{error.filename or 'A file'} cannot be used: {error.strerror}.") from error
        finally:
            supervisor.stop()
        supervisor.say("everything has ended; topics and messages are kept")

    def _start(self, supervisor: Supervisor, ending: Ending, port: int, kafka_port: int) -> None:
        os.environ.setdefault("TUTORIALKAFKA_START", uuid.uuid4().hex)
        os.environ.setdefault("DJANGO_DEBUG", "1")
        os.environ["CONSUMER_PROCESS"] = "1"
        os.environ["PYTHONUNBUFFERED"] = "1"
        self._start_kafka(supervisor, ending, kafka_port)
        for step in (("migrate", "--verbosity", "0"), ("group", "start")):
            if supervisor.run_once("migrate", manage(*step), lambda: ending.asked) and not ending.asked:
                raise StartFailed(f"`manage.py {step[0]}` failed; its last words are above.")
        if ending.asked:
            return
        supervisor.add(Part("consumer", manage("consume"), seconds=30))
        supervisor.add(Part("relay", manage("relay"), seconds=30))
        web = [sys.executable, "-m", "granian", "--interface", "asgi", "--host", HOST, "--port", str(port)]
        supervisor.add(
            Part(
                "web",
                [*web, "--workers-kill-timeout", "10", "--log-level", "warning", "tutorialkafka.asgi:application"],
                seconds=15,
            )
        )
        deadline = time.monotonic() + READY_SECONDS
        while not ending.wait(0.1) and not _ready(port):
            supervisor.look()
            if dying := [part.name for part in supervisor.parts if part.failures >= DEATHS]:
                raise StartFailed(f"{dying[0]} ends each time that it is started; its last words are above.")
            if time.monotonic() > deadline:
                raise StartFailed(f"Not everything answered within {READY_SECONDS} s; the last words are above.")
        if not ending.asked:
            self._welcome(supervisor, port)

    def _start_kafka(self, supervisor: Supervisor, ending: Ending, port: int) -> None:
        """Our own broker; or the one that the environment names; or the one that runs on our data already."""
        if given := os.environ.get("KAFKA_BROKER_URL"):
            if cluster_id_at(given) is None:
                raise StartFailed(f"No Kafka answers at KAFKA_BROKER_URL={given}. Start it, or unset the variable.")
            supervisor.say(f"using the Kafka at {given}")
            return
        os.environ["KAFKA_BROKER_URL"] = f"localhost:{port}"
        data = paths.folder(None, "kafka")
        cluster = Cluster(data)
        cluster.check_room()
        own = cluster.cluster_id
        running = cluster_id_at(f"localhost:{port}") if _listens(port) else None
        if running == own:
            supervisor.say(f"using the Kafka that runs on {data} already")
        elif _listens(port):
            raise PortTaken(taken(port, running, own))
        else:
            console.fetch_kafka(ending)
            supervisor.add(Part("kafka", manage("runkafka", "--port", str(port), "--data", str(data)), seconds=30))

    def _welcome(self, supervisor: Supervisor, port: int) -> None:
        site = f"http://localhost:{port}"
        supervisor.say(
            f"""
Everything runs. Open in a browser:
  {site}/tkcons/read               the consumed messages
  {site}/tkcons                    the consumer
  {site}/tkprod?message=hello      produce one
Or from another terminal:
  curl "{site}/tkprod?message=hello"
  curl "{site}/tkcons/read"
Ctrl-C ends it; topics and messages are kept in {paths.folder(None, "")}."""
        )


def _check_free(port: int) -> None:
    try:
        socket.create_server((HOST, port)).close()
    except OverflowError:
        raise StartFailed(f"There is no port {port}: choose one from 1024 to 65535.") from None
    except OSError as error:
        raise PortTaken(
            f"Port {port} is taken by another program. Stop it, or choose another port: make run PORT={port + 100}"
        ) from error


def _listens(port: int) -> bool:
    try:
        socket.create_connection(("localhost", port), timeout=1).close()
    except OSError:
        return False
    return True


def _ready(port: int) -> bool:
    """Whether the web server, Kafka and the database answer, and every group has its partitions."""
    site = f"http://{HOST}:{port}"
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # a proxy has nothing to do with this machine
    try:
        opener.open(f"{site}/readyz", timeout=5).close()
        if os.environ["DJANGO_DEBUG"] != "1":
            return True  # the groups are told to those who log in
        with opener.open(f"{site}/tkcons/status", timeout=5) as answer:
            groups = json.load(answer)["groups"]
    except (OSError, urllib.error.URLError, ValueError):
        return False
    return all(any(member["partitions"] for member in group["members"]) for group in groups)
