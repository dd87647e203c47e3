"""Whatever is asked of the pages and the panel, with a real broker and PostgreSQL: no 5xx. See tests.fuzzing.

A tenth of the cases of tests/unit/test_fuzz_pages, where Kafka's answers are given: here each look is a consumer of its own.
"""

from collections.abc import Iterator
from typing import Any

import pytest
from django.db import connections

from tests.fuzzing import CASES
from tests.strangers import KEY, Site, fill
from tk import clusters

pytestmark = [
    pytest.mark.kafka,
    pytest.mark.postgres,
    pytest.mark.django_db(transaction=True, databases=["default", "postgres"]),
]


class ToPostgres:
    """A router that has every table in the second database."""

    def db_for_read(self, model: Any, **hints: Any) -> str:
        return "postgres"

    db_for_write = db_for_read


@pytest.fixture
def site(settings, monkeypatch, broker, make_topic, send, postgres_alias) -> Iterator[Site]:
    settings.DATABASE_ROUTERS = [ToPostgres()]
    monkeypatch.setitem(connections["postgres"].settings_dict, "CONN_MAX_AGE", None)
    monkeypatch.setattr(clusters, "delete", lambda name, caller: None)  # the topic is for the other cases
    make_topic(2, name="orders")
    send("orders", *range(5))
    fill()
    with Site(settings, monkeypatch) as made:
        yield made


def test_nul_where_postgresql_compares_text(site, client):
    assert client.get("/tkcons/read/orders/0/77?topic_id=%00", headers={"Accept": "text/html"}).status_code == 404
    given = {"what": "discard", "sure": "1", "id": ["\0", KEY.decode() + "1"]}
    assert client.post("/tkcons/deadletters/settle", given).status_code == 302  # the other one is settled
    client.cookies["sessionid"] = "abcdefgh\0"
    assert client.get("/tkcons/read", headers={"Accept": "text/html"}).status_code == 200


def test_no_5xx_of_the_pages(site):
    site.fuzz(CASES // 10)
