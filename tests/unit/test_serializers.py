"""Python values on their way to Kafka: the same for produce() and publish()."""

import dataclasses
import datetime as dt
import uuid

import msgspec
import pydantic
import pytest

import tk
from tk import errors
from tk.testing import KafkaOutbox

pytestmark = pytest.mark.django_db


@dataclasses.dataclass
class Order:
    id: int
    due: dt.date


class Paid(msgspec.Struct):
    id: int
    due: dt.date


class Invoice(pydantic.BaseModel):
    id: int
    due: dt.date


DUE = dt.date(2026, 11, 25)
WRITTEN = b'{"id":1,"due":"2026-11-25"}'


def shout(value, topic):
    return f"{topic}: {value}!".encode()


@pytest.fixture(params=[tk.produce, tk.publish], ids=["produce", "publish"])
def send(request):
    """``send(topic, value, ...)`` by either function; gives the bytes that go to Kafka."""
    with KafkaOutbox() as fake:

        def go(topic, value, **more):
            try:
                request.param(topic, value, **more)
            except errors.TkError:
                fake.assertNothingProduced()
                raise
            return fake.messages[-1].value

        yield go


@pytest.mark.parametrize(
    ("value", "written"),
    [
        (b"\x00\xff", b"\x00\xff"),
        (bytearray(b"x"), b"x"),
        ("\u00e9", b"\xc3\xa9"),
        ({"id": 1, "due": DUE}, WRITTEN),
        (Order(1, DUE), WRITTEN),
        (Paid(1, DUE), WRITTEN),
        (Invoice(id=1, due=DUE), WRITTEN),
        ([uuid.UUID(int=1), None, 1.5], b'["00000000-0000-0000-0000-000000000001",null,1.5]'),
    ],
)
def test_values_become_bytes(send, value, written):
    assert send("orders", value) == written


def test_a_serializer_of_the_call_and_of_the_topic(send, settings):
    settings.TK = {"SERIALIZERS": {"loud.*": f"{__name__}.shout"}}
    assert send("orders", "a", serializer=shout) == b"orders: a!"
    assert send("loud.orders", "a") == b"loud.orders: a!"
    assert send("loud.orders", b"a") == b"a"
    assert send("orders", "a") == b"a"
    assert send("orders", None, key="gone", serializer=shout) is None


@pytest.mark.parametrize(
    ("given", "error"),
    [
        ({"value": object()}, errors.InvalidRecord),
        ({"value": "\ud800"}, errors.InvalidRecord),
        ({"value": {"a": "\ud800"}}, errors.InvalidRecord),
        ({"serializer": lambda value, topic: "text"}, errors.InvalidRecord),
        ({"topic": None}, errors.InvalidTopic),
        ({"topic": b"orders"}, errors.InvalidTopic),
        ({"key": 5}, errors.InvalidKey),
        ({"key": "\ud800"}, errors.InvalidKey),
        ({"partition": "1"}, errors.InvalidPartition),
        ({"partition": 0.0}, errors.InvalidPartition),
        ({"timestamp": 1_700_000_000_000.5}, errors.InvalidTimestamp),
        ({"headers": {"a": 5}}, errors.InvalidHeader),
        ({"headers": {5: "a"}}, errors.InvalidHeader),
        ({"headers": "abc"}, errors.InvalidHeader),
    ],
)
def test_what_is_of_no_use_is_refused_with_what_is_wrong(send, given, error):
    with pytest.raises(error) as raised:
        send(**{"topic": "orders", "value": "x", **given})
    assert type(raised.value) is error
    assert str(raised.value)
