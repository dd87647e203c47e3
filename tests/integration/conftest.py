"""Fixtures of the tests on the real broker."""

import uuid
from collections.abc import Callable, Iterator

import pytest
from confluent_kafka import Producer


@pytest.fixture
def send(broker) -> Iterator[Callable[..., None]]:
    """``send(topic, *values, partition=0)``: into the topic, acknowledged."""
    producer = Producer({"bootstrap.servers": broker, "enable.idempotence": True, "linger.ms": 1})

    def go(topic: str, *values: object, partition: int = 0) -> None:
        for value in values:
            producer.produce(topic, str(value).encode(), partition=partition)
        assert producer.flush(20) == 0

    yield go
    producer.close()


@pytest.fixture
def group() -> str:
    return f"group-{uuid.uuid4().hex[:8]}"
