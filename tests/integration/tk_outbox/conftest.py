"""The outbox on both databases: fixtures that run a test once on SQLite and once on PostgreSQL."""

import pytest

from tk.models import IdempotentRequest, OutboxEvent, OutboxRelay, OutboxShard
from tk.relay import Relay


@pytest.fixture
def empty_postgres(postgres_alias, django_db_blocker):
    """The suite's database on PostgreSQL, emptied of the outbox after the test."""
    with django_db_blocker.unblock():  # the fixtures of pytest-django know the databases of the settings alone
        yield postgres_alias
        for model in (OutboxEvent, OutboxShard, OutboxRelay, IdempotentRequest):
            model.objects.using(postgres_alias).all().delete()


@pytest.fixture(
    params=[
        pytest.param("default", id="sqlite", marks=pytest.mark.django_db(transaction=True)),
        pytest.param("postgres", id="postgresql"),
    ]
)
def alias(request):
    if request.param == "postgres":
        request.getfixturevalue("empty_postgres")
    return request.param


@pytest.fixture
def relay(alias, broker):
    """``relay()`` sends what waits and returns; the test's own thread does it."""
    return lambda: Relay(alias).run(once=True)
