"""The pytest plugin of tklocal: a real Apache Kafka on this machine, for tests."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tklocal.kafka import Cluster


@pytest.fixture(scope="session")
def kafka_cluster(tmp_path_factory: pytest.TempPathFactory) -> "Iterator[Cluster]":
    """One broker for the whole run, on a free port. Skips where the extra `local` is not installed."""
    pytest.importorskip("jgo", reason="a local Kafka needs the extra: pip install tutorialkafka[local]")
    from tklocal.kafka import Cluster

    with Cluster(tmp_path_factory.mktemp("kafka"), port=0) as cluster:
        yield cluster


@pytest.fixture
def kafka_broker(kafka_cluster: "Cluster", settings: Any) -> str:
    """Points the project at the real broker (settings.KAFKA_BROKER_URL, by pytest-django) for one test; its address."""
    settings.KAFKA_BROKER_URL = kafka_cluster.bootstrap
    return kafka_cluster.bootstrap
