"""Run Apache Kafka on this machine."""

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from tklocal import console, paths
from tklocal.errors import TklocalError
from tklocal.kafka import Cluster
from tklocal.waiting import Ending


class Command(BaseCommand):
    help = "Runs Apache Kafka in the foreground: one broker, or with --brokers 3 a cluster. Ctrl-C ends it."
    requires_system_checks = []

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--brokers", type=int, default=1, choices=(1, 3), help="1 (default) or 3")
        parser.add_argument("--port", type=int, default=9092, help="of the first broker (default 9092); 0: a free one")
        parser.add_argument("--data", default=None, help="the folder for topics and logs (default: kafka in DATA)")
        parser.add_argument("--partitions", type=int, default=1, help="of sample-topic, when it is made (default 1)")

    def handle(self, *args: Any, **options: Any) -> None:
        brokers = options["brokers"]
        data = paths.folder(options["data"], "kafka" if brokers == 1 else f"kafka-{brokers}")
        cluster = Cluster(data, brokers=brokers, port=options["port"], partitions=options["partitions"])
        ending = Ending()
        try:
            console.fetch_kafka(ending)
            with cluster.started(ending.check):
                self.stdout.write(f"Apache Kafka is ready at {cluster.bootstrap}. Data: {data}. Ctrl-C ends it.")
                self.stdout.flush()
                while not ending.wait(0.2):
                    cluster.check()
        except TklocalError as error:
            raise CommandError(str(error)) from error
