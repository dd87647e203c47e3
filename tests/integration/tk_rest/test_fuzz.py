"""No request makes a 5xx of the REST Proxy: whatever its method, address, types and body are. See tests.asking."""

import time
from collections import Counter

import pytest
from django.test import Client

from tests.asking import Asked, answer, asked
from tests.fuzzing import SECONDS, SEED
from tests.integration.tk_rest.conftest import BINARY, JSON, V2, Consumer
from tests.unit.test_fuzz import REST

pytestmark = [pytest.mark.kafka, pytest.mark.django_db, pytest.mark.timeout(600)]

INSTANCE = b"/rest/consumers/fuzz/instances/one"
BODIES = {name: right for name, (_, right) in REST.items()}


def right(topic: bytes) -> list[Asked]:
    def get(path: bytes, query: bytes = b"", accept: str = V2) -> Asked:
        return Asked("GET", b"/rest" + path, query, headers={"HTTP_ACCEPT": accept.encode()})

    def post(path: bytes, body: bytes, kind: str = V2, query: bytes = b"") -> Asked:
        body = body.replace(b'"topic": "a"', b'"topic": "%s"' % topic).replace(b'"a", "b"', b'"%s"' % topic)
        return Asked("POST", path, query, body, {"CONTENT_TYPE": kind.encode(), "HTTP_ACCEPT": V2.encode()})

    topics = b"/rest/topics/" + topic
    return [
        *(post(topics, body, JSON) for body in BODIES["records in JSON"]),
        *(post(topics, body, BINARY) for body in BODIES["records in base64"]),
        post(topics + b"/partitions/0", BODIES["records in JSON"][0], JSON),
        get(b"/topics"),
        get(b"/topics/" + topic),
        get(b"/topics/%s/partitions" % topic),
        get(b"/topics/%s/partitions/0" % topic),
        get(b"/topics/%s/partitions/0/offsets" % topic),
        get(b"/brokers"),
        *(post(b"/rest/consumers/fuzz", body) for body in BODIES["consumer"]),
        *(post(INSTANCE + b"/subscription", body) for body in BODIES["topics"]),
        get(INSTANCE[5:] + b"/subscription"),
        Asked("DELETE", INSTANCE + b"/subscription"),
        *(post(INSTANCE + b"/assignments", body) for body in BODIES["partitions"]),
        get(INSTANCE[5:] + b"/assignments"),
        *(post(INSTANCE + b"/offsets", body, V2, b"async=true") for body in BODIES["offsets"]),
        *(post(INSTANCE + b"/positions", body) for body in BODIES["offsets"]),
        *(post(INSTANCE + b"/positions/beginning", body) for body in BODIES["partitions"]),
        *(post(INSTANCE + b"/positions/end", body) for body in BODIES["partitions"]),
        get(INSTANCE[5:] + b"/records", b"timeout=5&max_bytes=100", JSON),
    ]


def test_no_5xx_from_input(local, settings, topic):
    settings.TKREST = {"READ_MS": 5, "MAX_READ_MS": 5, "MAX_INSTANCES_OF_CALLER": 3}
    Consumer(local, "fuzz", name="one")
    client = Client()
    seen: Counter[int] = Counter()
    spent: Counter[bytes] = Counter()
    for case in asked(right(topic.encode())):
        told = f"{case!r} (FUZZ_SEED={SEED})"
        began, wall = time.thread_time(), time.monotonic()
        try:
            response, content = answer(client, case)
        except Exception as error:
            raise AssertionError(told) from error
        assert time.thread_time() - began < SECONDS, told
        assert response.status_code < 500, f"{response.status_code} {content[:500]!r}: {told}"
        if response.status_code >= 400 and response["Content-Type"] == V2:
            assert response.json()["error_code"] // 100 in {response.status_code // 100, response.status_code}, told
        if response.status_code == 204 and case.method == "DELETE" and case.path == INSTANCE:
            Consumer(local, "fuzz", name="one")
        seen[response.status_code] += 1
        spent[case.method.encode() + case.path[:70]] += time.monotonic() - wall
    print(seen, [(k, round(v, 2)) for k, v in spent.most_common(15)], sum(spent.values()))
    assert {200, 204, 400, 404, 405, 409, 415, 422} <= set(seen)
