"""The REST Proxy over a broker that is paused, killed, and comes back."""

import time

import pytest

from tests.integration.tk_rest.conftest import JSON, Consumer, Rest
from tests.waiting import eventually
from tk import producer
from tklocal.kafka import Cluster
from tkrest import instances

pytestmark = [pytest.mark.kafka, pytest.mark.django_db, pytest.mark.timeout(240)]

TOPIC = "/topics/sample-topic"


def test_bounded_answers_and_no_record_lost(settings, tmp_path):
    settings.DEBUG = True
    settings.TK = {"QUEUE_MESSAGES": 25, "DELIVERY_TIMEOUT": 2.0, "REQUEST_TIMEOUT": 4.0, "METADATA_SECONDS": 60.0}
    rest = Rest()
    with Cluster(tmp_path, port=0) as cluster:
        settings.KAFKA_BROKER_URL = cluster.bootstrap
        rest.send("sample-topic", *range(20))
        made = Consumer(rest, "g")
        made.subscribe("sample-topic")
        found = made.values(5, "?max_bytes=5")
        other = Consumer(rest, "other")
        other.subscribe("sample-topic")
        other.values(1, "?max_bytes=1")
        eventually(lambda: producer.unacknowledged() == 0)

        cluster.pause()  # it takes connections and answers nothing: what fits into the queue may be there, the rest is not
        body = {"records": [{"value": "paused"}] * 27}
        answer = rest.json("POST", TOPIC, body, JSON)
        assert [each["error_code"] for each in answer["offsets"]] == [50401] * 25 + [50003] * 2
        assert {each["offset"] for each in answer["offsets"]} == {None}
        cluster.resume()

        cluster.kill()
        settings.TK = {"DELIVERY_TIMEOUT": 2.0, "REQUEST_TIMEOUT": 4.0}
        where = {"topic": "sample-topic", "partition": 0}
        for method, path, part in [
            ("GET", "/topics", None),
            ("GET", "/brokers", None),
            ("GET", TOPIC, None),
            ("GET", f"{TOPIC}/partitions/0/offsets", None),
            ("POST", "/consumers/g", {}),
            ("POST", f"{made.path}/positions/end", {"partitions": [where]}),
            ("POST", f"{made.path}/offsets", {"offsets": [{**where, "offset": 0}]}),
        ]:
            began = time.monotonic()
            answer = rest(method, path, part)
            assert (answer.status_code, answer.json()["error_code"]) == (503, 50302), path
            assert int(answer["Retry-After"]) > 0
            assert time.monotonic() - began < 8
        began = time.monotonic()
        other("DELETE", "/subscription")
        assert time.monotonic() - began < 8
        eventually(lambda: rest("POST", TOPIC, body, JSON).status_code == 503)
        eventually(lambda: _read(rest, made, found) == 503)

        cluster.restart()
        cluster.wait(120)
        eventually(lambda: rest("POST", TOPIC, {"records": [{"value": "after"}]}, JSON).status_code == 200, 60)
        eventually(lambda: _read(rest, made, found) and "after" in found, 60)
        # The group had given the member up: what the client did not commit came a second time, in order all the same.
        assert [value for value in dict.fromkeys(found) if isinstance(value, int)] == list(range(20))
        other("POST", "/assignments", {"partitions": [where]})
        # Nothing was committed before it came back, and when it did no broker took the commit.
        assert other.values(1, "?max_bytes=1") == [0]
        instances.close()


def _read(rest: Rest, made: Consumer, found: list[object]) -> int:
    """Add what one read gives; its status."""
    answer = rest("GET", f"{made.path}/records?timeout=300", accept=made.kind)
    if answer.status_code == 200:
        found += [each["value"] for each in answer.json()]
    status: int = answer.status_code
    return status
