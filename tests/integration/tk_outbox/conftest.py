"""The outbox on both databases: fixtures that run a test once on SQLite and once on PostgreSQL."""

import dj_database_url
import psycopg
import pytest
from confluent_kafka import Consumer, TopicPartition
from django.core.management import call_command
from django.db import connections

from tk.models import IdempotentRequest, OutboxEvent, OutboxRelay, OutboxShard
from tk.relay import Relay


@pytest.fixture(scope="session")
def outbox_postgres(postgres, django_db_setup, django_db_blocker):
    """A database of its own on the suite's server, under the alias `outbox`; gives its address."""
    with psycopg.connect(postgres.url, autocommit=True) as connection:
        connection.execute("CREATE DATABASE outbox")
    url = postgres.url.rsplit("/", 1)[0] + "/outbox"
    with django_db_blocker.unblock():
        given = dj_database_url.parse(url)
        connections.databases["outbox"] = {**connections.databases["default"], **given, "OPTIONS": {}}
        call_command("migrate", "tk", database="outbox", verbosity=0)
        yield url
        connections["outbox"].close()
        del connections["outbox"]
        del connections.databases["outbox"]


@pytest.fixture
def postgres_alias(outbox_postgres, django_db_blocker):
    with django_db_blocker.unblock():  # the fixtures of pytest-django know the databases of the settings alone
        yield "outbox"
        for model in (OutboxEvent, OutboxShard, OutboxRelay, IdempotentRequest):
            model.objects.using("outbox").all().delete()


@pytest.fixture(
    params=[
        pytest.param("default", id="sqlite", marks=pytest.mark.django_db(transaction=True)),
        pytest.param("outbox", id="postgresql"),
    ]
)
def alias(request):
    if request.param == "outbox":
        request.getfixturevalue("postgres_alias")
    return request.param


@pytest.fixture
def relay(alias, broker):
    """``relay()`` sends what waits and returns; the test's own thread does it."""
    return lambda: Relay(alias).run(once=True)


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
