"""Fixtures of the whole suite: a real Apache Kafka and a real PostgreSQL, started once each, on free ports."""

import signal
import tempfile
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import hypothesis
import pytest
from confluent_kafka import KafkaException, TopicCollection
from confluent_kafka.admin import AdminClient, NewTopic
from pytest_django import Settings

from tests.waiting import eventually
from tklocal.kafka import Cluster
from tklocal.postgres import Postgres

# In a fresh clone hypothesis makes its table of characters at the first draw, which takes a second.
hypothesis.settings.register_profile("suite", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow])
hypothesis.settings.load_profile("suite")

# A script's job in the background ignores SIGINT, and so would all that the suite starts, and is to end by it.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """One broker for the whole run. A test that kills brokers starts a cluster of its own."""
    with Cluster(tmp_path_factory.mktemp("kafka"), port=0) as cluster:
        yield cluster


@pytest.fixture(scope="session")
def kafka_admin(kafka: Cluster) -> AdminClient:
    return AdminClient({"bootstrap.servers": kafka.bootstrap})


@pytest.fixture
def broker(kafka: Cluster, settings: Settings) -> str:
    """Points the project at the suite's broker; gives its address."""
    settings.KAFKA_BROKER_URL = kafka.bootstrap
    return kafka.bootstrap


@pytest.fixture
def make_topic(kafka_admin: AdminClient) -> Iterator[Callable[..., str]]:
    """``make_topic(partitions=1, **config)`` makes a topic with a name of its own and deletes it after the test."""
    made: list[str] = []

    def make(partitions: int = 1, name: str = "", **config: str) -> str:
        name = name or f"test-{uuid.uuid4().hex[:12]}"
        options = {key.replace("_", "."): value for key, value in config.items()}
        new = NewTopic(name, num_partitions=partitions, replication_factor=1, config=options)
        kafka_admin.create_topics([new])[name].result(timeout=10)
        made.append(name)
        eventually(lambda: _is_known(kafka_admin, name))  # the controller answers before the broker knows
        return name

    yield make
    if made:
        kafka_admin.delete_topics(made)


def _is_known(admin: AdminClient, name: str) -> bool:
    try:
        return bool(admin.describe_topics(TopicCollection([name]))[name].result(timeout=10))
    except KafkaException:
        return False


@pytest.fixture
def topic(make_topic: Callable[..., str]) -> str:
    """A topic of one partition for this test alone."""
    return make_topic()


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    # Not below pytest's own folder: another run closes that to the account that the server runs as.
    with tempfile.TemporaryDirectory(prefix="tutorialkafka-postgres-") as folder, Postgres(Path(folder)) as server:
        yield server
