"""Fixtures of the tests on the real broker."""

import uuid
from collections.abc import Callable, Iterator

import dj_database_url
import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from django.core.management import call_command
from django.db import connections

from tests.integration.consuming import QUICK
from tests.integration.lanes import Both
from tkcons import groups, handlers


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
def read(broker):
    """``read(topic, partition=0)``: everything in a partition, from its start."""

    def messages(topic: str, partition: int = 0):
        consumer = Consumer({"bootstrap.servers": broker, "group.id": "unused", "enable.auto.commit": False})
        _, end = consumer.get_watermark_offsets(TopicPartition(topic, partition), timeout=10)
        consumer.assign([TopicPartition(topic, partition, 0)])
        found = []
        while len(found) < end:
            found += consumer.consume(end - len(found), 5)
        consumer.close()
        return found

    return messages


@pytest.fixture
def group() -> str:
    return f"group-{uuid.uuid4().hex[:8]}"


@pytest.fixture
def quick(settings, broker) -> None:
    """Runners that look, pause and end in tenths of seconds."""
    settings.TKCONS = QUICK


@pytest.fixture
def handlers_of_the_test(quick, monkeypatch) -> None:
    """A registry that forgets the handlers of the test after it."""
    monkeypatch.setattr(handlers, "registry", dict(handlers.registry))
    monkeypatch.setattr(groups, "registry", handlers.registry)


@pytest.fixture(scope="session")
def postgres_alias(postgres, django_db_setup, django_db_blocker):
    """A second database of the project, on the real server."""
    with django_db_blocker.unblock():
        given = dj_database_url.parse(postgres.url)
        connections.databases["postgres"] = {**connections.databases["default"], **given, "OPTIONS": {}}
        connections.databases["postgres"]["TEST"] = {**connections.databases["default"]["TEST"], "NAME": None}
        call_command("migrate", database="postgres", verbosity=0)
        yield "postgres"
        connections["postgres"].close()
        del connections.databases["postgres"]


@pytest.fixture
def both(settings, broker, topic) -> Both:
    settings.DEBUG = True
    settings.TK = {"TOPIC": topic}
    return Both()
