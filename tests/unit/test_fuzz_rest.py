"""Whatever is asked of the REST Proxy, every address answers, and with no 5xx. See tests.fuzzing.

Here Kafka's answers are given; tests/integration/tk_rest/test_fuzz asks a real broker.
"""

from collections.abc import Iterable, Iterator
from concurrent.futures import Future
from types import SimpleNamespace
from typing import Any

import pytest
from confluent_kafka import OFFSET_BEGINNING, Message, TopicPartition

from tests.fuzzing import CASES
from tests.strangers import NONE, Addresses, Site
from tests.unit.test_fuzz import REST
from tk.access import Caller
from tk.testing import KafkaOutbox
from tkrest import client, cluster, instances
from tkrest.client import Options
from tkrest.media import BINARY, JSON, V2, of

pytestmark = pytest.mark.django_db(transaction=True)

TOPICS = {"orders": 2, "sample-topic": 1}
ONE = b"/rest/consumers/g/instances/one"
GIVEN = {name: [body.replace(b'"a"', b'"orders"') for body in right] for name, (_, right) in REST.items()}
RECORDS = GIVEN["records in JSON"] + GIVEN["records in base64"]
ADDRESSES: Addresses = [
    (b"/rest/topics", NONE, NONE),
    (b"/rest/brokers", NONE, NONE),
    (b"/rest/topics/orders/partitions", NONE, NONE),
    (b"/rest/topics/orders/partitions/1/offsets", NONE, NONE),
    *[
        (b"/rest/topics/orders", NONE, RECORDS),
        (b"/rest/topics/orders/partitions/1", NONE, RECORDS),
        (b"/rest/consumers/g", NONE, GIVEN["consumer"]),
        (ONE, NONE, NONE),
        (ONE + b"/subscription", NONE, GIVEN["topics"]),
        (ONE + b"/assignments", NONE, GIVEN["partitions"]),
        (ONE + b"/offsets", [b"async=true"], GIVEN["offsets"] + GIVEN["partitions"]),
        (ONE + b"/positions", NONE, GIVEN["offsets"]),
        (ONE + b"/positions/beginning", NONE, GIVEN["partitions"]),
        (ONE + b"/records", [b"timeout=10&max_bytes=100", b"timeout=-1"], NONE),
    ]
    * 2,
]


class Consumer:
    """As much of confluent_kafka's as an instance uses: a message at each position below five."""

    def __init__(self, config: dict[str, Any]) -> None:
        self._told = config["on_commit"]
        self._at: dict[tuple[str, int], int] = {}

    def subscribe(self, names: list[str], on_assign: Any, **others: Any) -> None:
        on_assign(self, [TopicPartition(name, 0, 0) for name in names])

    def assign(self, partitions: list[TopicPartition]) -> None:
        self._at = {}
        self.incremental_assign(partitions)

    def incremental_assign(self, partitions: list[TopicPartition]) -> None:
        self._at |= {(each.topic, each.partition): max(0, each.offset) for each in partitions}

    def incremental_unassign(self, partitions: list[TopicPartition]) -> None:
        for each in partitions:
            del self._at[each.topic, each.partition]

    def assignment(self) -> list[TopicPartition]:
        return [TopicPartition(*name) for name in self._at]

    def consume(self, most: int, seconds: float) -> list[Message]:
        given = [(name, offset) for name, offset in self._at.items() if offset < 5][:most]
        self._at |= {name: offset + 1 for name, offset in given}
        return [Message(topic=t, partition=p, offset=n, value=b'"v"', timestamp=(1, n)) for (t, p), n in given]

    def commit(self, offsets: list[TopicPartition], **others: Any) -> None:
        self._told(None, offsets)

    def committed(self, asked: list[TopicPartition], timeout: float) -> list[TopicPartition]:
        return [TopicPartition(each.topic, each.partition, 3) for each in asked]

    def offsets_for_times(self, asked: list[TopicPartition], timeout: float) -> list[TopicPartition]:
        return [
            TopicPartition(each.topic, each.partition, 0 if each.offset == OFFSET_BEGINNING else 5) for each in asked
        ]

    def get_watermark_offsets(self, where: TopicPartition, timeout: float) -> tuple[int, int]:
        return 0, 5

    def pause(self, partitions: list[TopicPartition]) -> None:
        pass

    resume = pause

    def close(self) -> None:
        pass


class Admin:
    """As much of confluent_kafka's as tkrest.cluster asks."""

    def __init__(self, config: dict[str, Any]) -> None:
        pass

    def list_topics(self, timeout: float) -> Any:
        return SimpleNamespace(topics=TOPICS)

    def describe_topics(self, asked: Any, request_timeout: float) -> dict[str, "Future[Any]"]:
        node = SimpleNamespace(id=1)
        partitions = [SimpleNamespace(id=number, leader=node, isr=[node], replicas=[node]) for number in range(2)]
        return dict.fromkeys(TOPICS, done(SimpleNamespace(partitions=partitions)))

    def describe_configs(self, asked: Iterable[Any], request_timeout: float) -> dict[Any, "Future[Any]"]:
        return dict.fromkeys(asked, done({}))

    def list_offsets(self, asked: Iterable[Any], request_timeout: float) -> dict[Any, "Future[Any]"]:
        return dict.fromkeys(asked, done(SimpleNamespace(offset=5)))

    def describe_cluster(self, request_timeout: float) -> "Future[Any]":
        return done(SimpleNamespace(nodes=[SimpleNamespace(id=1)]))


def done(answer: Any) -> "Future[Any]":
    future: Future[Any] = Future()
    future.set_result(answer)
    return future


@pytest.fixture
def site(settings, monkeypatch) -> Iterator[Site]:
    settings.TKREST = {"READ_MS": 1, "MAX_READ_MS": 2, "MAX_INSTANCES_OF_CALLER": 3}
    monkeypatch.setattr(cluster, "AdminClient", Admin)
    monkeypatch.setattr(cluster, "_admin", None)
    monkeypatch.setattr(client, "Consumer", Consumer)
    with Site(settings, monkeypatch) as made, KafkaOutbox(TOPICS):
        yield made
    instances.close()
    cluster._admin = None


def test_no_5xx_of_the_rest_proxy(site):
    local = Caller("local", everything=True)

    def there() -> None:
        """The instance whose addresses are asked; those that requests made go again."""
        for group, name in list(instances.current._all):
            if name != "one":
                instances.current.delete(local, group, name)
        if ("g", "one") not in instances.current._all:
            instances.current.create(local, "g", "one", Options(JSON, "earliest"))

    site.fuzz(CASES, ADDRESSES, [of(JSON), of(JSON), of(BINARY), V2, "application/json"], before=there)
