"""Whatever is asked of the pages and the panel, every address answers, and with no 5xx. See tests.fuzzing.

Here Kafka's answers are given; tests/integration/test_fuzz_pages asks a real broker, and PostgreSQL.
"""

from collections.abc import Iterable, Iterator
from typing import Any

import pytest
from confluent_kafka import Message, TopicPartition
from django.db import connection

from tests.strangers import Site, fill
from tk import clusters, sizes
from tk.clusters import Described, Option, Partition
from tk.testing import KafkaOutbox
from tkcons import browse, seeking

pytestmark = pytest.mark.django_db(transaction=True)


class Consumer:
    """As much of confluent_kafka's as looks and moves use: five messages in each partition."""

    def __init__(self, config: dict[str, Any]) -> None:
        self._at = TopicPartition("")

    def get_watermark_offsets(self, where: TopicPartition, timeout: float) -> tuple[int, int]:
        return 0, 5

    def offsets_for_times(self, asked: list[TopicPartition], timeout: float) -> list[TopicPartition]:
        return [TopicPartition(each.topic, each.partition, 2) for each in asked]

    def assign(self, places: list[TopicPartition]) -> None:
        (self._at,) = places

    def consume(self, most: int, seconds: float) -> list[Message]:
        at = self._at
        return [
            Message(topic=at.topic, partition=at.partition, offset=n, value=b"\xff<b>") for n in range(at.offset, 5)
        ]

    def commit(self, **kwargs: Any) -> None:
        pass

    def close(self) -> None:
        pass


def described(names: Iterable[str]) -> list[Described]:
    partitions = tuple(Partition(number, 1, (1,), (1,), 0, 5) for number in range(2))
    return [Described(name, f"fake-{name}", internal=False, partitions=partitions) for name in names if len(name) < 9]


@pytest.fixture
def site(settings, monkeypatch) -> Iterator[Site]:
    for name, value in {
        "names": lambda: ["orders", "sample-topic"],
        "describe": described,
        "configuration": lambda name: [Option("retention.ms", "1", own=True)],
        "_change": lambda asked, name: None,
    }.items():
        monkeypatch.setattr(clusters, name, value)
    monkeypatch.setattr(sizes, "measure", lambda topics: sizes.Measured(topics, None))
    for module in (browse, seeking):
        monkeypatch.setattr(module, "Consumer", Consumer)
    monkeypatch.setitem(connection.settings_dict, "CONN_MAX_AGE", None)  # a file is opened once, not in each case
    fill()
    with Site(settings, monkeypatch) as made, KafkaOutbox({"orders": 2, "sample-topic": 1}):
        yield made


def test_no_5xx_of_the_pages(site):
    site.fuzz()
