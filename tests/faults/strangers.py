"""Members of the product's groups that are none of its own: they join, take partitions away, and leave."""

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from confluent_kafka import Consumer

JOIN_SECONDS = 1.0  # for which each stays


@contextmanager
def strangers(bootstrap: str, topic: str, groups: Sequence[str]) -> Iterator[None]:
    """In each group one after the other, until the block ends."""
    ending = threading.Event()

    def come_and_go(group: str) -> None:
        while not ending.is_set():
            consumer = Consumer(
                {
                    "bootstrap.servers": bootstrap,
                    "group.id": group,
                    "partition.assignment.strategy": "cooperative-sticky",
                    "session.timeout.ms": 4_000,
                    "enable.auto.commit": False,
                    "log_level": 0,
                }
            )
            consumer.subscribe([topic])
            consumer.consume(1, JOIN_SECONDS)
            consumer.close()

    threads = [threading.Thread(target=come_and_go, args=(group,)) for group in groups]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        ending.set()
        for thread in threads:
            thread.join(30)
