"""The outbox against its model, on the real broker.

In CI the courses are the same ones each time. MODEL_EXAMPLES: so many on each database, others each time.
"""

import os
from collections import defaultdict, deque
from collections.abc import Callable
from typing import Any

import pytest
from confluent_kafka import Consumer, KafkaError, Producer, TopicPartition
from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.integration.tk_outbox.outbox_model import OutboxMachine

pytestmark = [pytest.mark.kafka, pytest.mark.postgres, pytest.mark.timeout(600)]


class Ahead:
    """Makes producers ahead of their use: the broker knows a new one after half a second, which librdkafka waits."""

    def __init__(self) -> None:
        self.made: dict[int | None, deque[tuple[Producer, list[Callable[[KafkaError], None]]]]] = defaultdict(deque)

    def __call__(self, config: dict[str, Any]) -> Producer:
        made = self.made[config.get("batch.num.messages")]  # nothing else differs
        while len(made) < 6:
            made.append(self._make(config))
        producer, told = made.popleft()
        told.append(config["error_cb"])
        return producer

    @staticmethod
    def _make(config: dict[str, Any]) -> tuple[Producer, list[Callable[[KafkaError], None]]]:
        told: list[Callable[[KafkaError], None]] = []
        return Producer({**config, "error_cb": lambda error: [each(error) for each in told]}), told


@pytest.fixture
def follow(broker):
    """``follow(topic)`` gives a function that gives everything in the topic's partition; it reads on each time."""
    given = {"bootstrap.servers": broker, "group.id": "unused", "enable.auto.commit": False}
    consumer, asking = Consumer(given), Consumer(given)  # a question would wait for the fetch before it

    def begin(topic):
        found = []
        consumer.assign([TopicPartition(topic, 0, 0)])

        def read():
            _, end = asking.get_watermark_offsets(TopicPartition(topic, 0), timeout=10)
            while len(found) < end:
                found.extend(consumer.consume(end - len(found), 5))
            return found

        return read

    yield begin
    consumer.close()
    asking.close()


# On SQLite the half of the courses: each commit waits for the disk.
@pytest.mark.parametrize(
    ("alias", "courses"),
    [pytest.param("default", 24, marks=pytest.mark.django_db(transaction=True)), ("postgres", 48)],
    indirect=["alias"],
)
def test_the_outbox_does_what_its_model_does(alias, courses, make_topic, follow, monkeypatch):
    monkeypatch.setattr("tk.relay.BATCH", 3)  # the next events are read before the last are acknowledged
    monkeypatch.setattr("tk.relay.IN_FLIGHT", 6)
    monkeypatch.setattr("tk.sender.STALL_SECONDS", 0.1)  # of each course its own
    monkeypatch.setattr("tk.sender.FLUSH_SECONDS", 60.0)
    monkeypatch.setattr("tk.sender.Producer", Ahead())
    topic = make_topic(name=f"the-model-{alias}", max_message_bytes="5000")
    read = follow(topic)
    machine = type(f"Outbox_{alias}", (OutboxMachine,), {"alias": alias, "topic": topic, "read": lambda _: read()})
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=int(os.environ.get("MODEL_EXAMPLES", courses)),
            derandomize="MODEL_EXAMPLES" not in os.environ,
            stateful_step_count=30,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
