"""No request makes a 5xx of the REST Proxy: whatever its method, address, types and body are."""

import json
import string

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.integration.tk_rest.conftest import BINARY, JSON, V2, Consumer

pytestmark = [pytest.mark.kafka, pytest.mark.django_db]

ADDRESSES = [
    "/topics",
    "/topics/{text}",
    "/topics/sample-topic",
    "/topics/{text}/partitions",
    "/topics/sample-topic/partitions/{number}",
    "/topics/sample-topic/partitions/{number}/offsets",
    "/brokers",
    "/consumers/{text}",
    "/consumers/fuzz/instances/{text}/records",
    "/consumers/fuzz/instances/one",
    *(
        f"/consumers/fuzz/instances/one/{part}"
        for part in (
            "subscription",
            "assignments",
            "offsets",
            "offsets?async={text}",
            "positions",
            "positions/beginning",
            "positions/end",
            "records?timeout={number}",
            "records?max_bytes={number}&timeout={text}",
        )
    ),
]
numbers = st.integers() | st.integers(-2, 3)
texts = st.text(max_size=20) | st.sampled_from(["sample-topic", "one", ".*", "(", "a%00", "%ff", "..", "\ud800"])
leaves = st.none() | st.booleans() | numbers | st.floats() | texts
fields = st.sampled_from(
    [
        "records",
        "value",
        "key",
        "partition",
        "headers",
        "name",
        "timestamp",
        "partitions",
        "offsets",
        "topic",
        "topics",
        "topic_pattern",
        "offset",
        "metadata",
        "format",
        "auto.offset.reset",
        "auto.commit.enable",
        "fetch.min.bytes",
        "consumer.request.timeout.ms",
        "id",
    ]
)
values = st.recursive(
    leaves,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(fields | texts, inner, max_size=4),
    max_leaves=12,
)
place = st.fixed_dictionaries({"topic": st.just("sample-topic"), "partition": st.just(0), "offset": numbers})
bodies = st.one_of(
    st.binary(max_size=40),
    values.map(lambda value: json.dumps(value).encode()),
    st.fixed_dictionaries({"records": st.lists(values | st.fixed_dictionaries({"value": values}), max_size=3)}).map(
        lambda value: json.dumps(value).encode()
    ),
    st.sampled_from(["offsets", "partitions"]).flatmap(
        lambda name: st.lists(place, max_size=2).map(lambda rows: json.dumps({name: rows}).encode())
    ),
)
headers = st.text(string.printable.replace("\r", "").replace("\n", ""), max_size=30)
kinds = st.sampled_from([V2, JSON, BINARY, "application/json", "", "text/plain", "a/b; charset*=x"]) | headers


@pytest.fixture
def instance(local, settings) -> Consumer:
    settings.TKREST = {"READ_MS": 10, "MAX_READ_MS": 20, "MAX_INSTANCES_OF_CALLER": 3}
    return Consumer(local, "fuzz", name="one")


@given(
    method=st.sampled_from(["GET", "POST", "DELETE", "PUT", "OPTIONS"]),
    address=st.sampled_from(ADDRESSES),
    text=texts,
    number=numbers,
    body=bodies,
    kind=kinds,
    accept=kinds,
)
@settings(max_examples=400, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_5xx_from_input(local, instance, method, address, text, number, body, kind, accept):
    path = address.format(text=text.replace("/", "").encode("utf-8", "replace").decode(), number=number)
    answer = local(method, path, body, kind, accept=accept)
    assert answer.status_code < 500, answer.content
    if answer.status_code >= 400 and answer["Content-Type"] == V2:
        assert answer.json()["error_code"] // 100 in {answer.status_code // 100, answer.status_code}
    if answer.status_code == 204 and method == "DELETE" and address.endswith("/one"):
        Consumer(local, "fuzz", name="one")
