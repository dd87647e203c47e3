"""tk.testing: what a project's tests see of Kafka without one."""

import asyncio
import threading

import pytest
from django.db import transaction
from django.test import Client, TestCase, TransactionTestCase

import tk
from tk import errors, producer, topics
from tk.outbox import publish_many
from tk.testing import KafkaOutbox, KafkaTestMixin


@pytest.fixture
def fake():
    with KafkaOutbox() as made:
        yield made


async def _aproduce(*args, **kwargs):
    return await tk.aproduce(*args, **kwargs)


def test_every_way_to_produce_is_seen(fake):
    receipt = tk.produce("orders", {"id": 1}, key="k", headers={"a": "b"}, timestamp=7)
    assert (receipt.topic, receipt.partition, receipt.offset, receipt.timestamp) == ("orders", 0, 0, 7)
    assert asyncio.run(_aproduce("orders", b"x")).offset == 1
    (first,) = fake.assertProduced("orders", {"id": 1}, key="k", headers={"a": "b"})
    assert first.json() == {"id": 1}
    assert [message.value for message in fake.messages] == [b'{"id":1}', b"x"]
    fake.assertProduced("orders", count=2)


def test_many_at_once(settings):
    given = [
        tk.Record("orders", b"1", b"k"),
        tk.Record("orders", b"x" * 1_048_577),
        tk.Record("orders", b"2", b"k", (("a", b"b"),), None, 7),
        tk.Record("nothing", b"3"),
    ]
    with KafkaOutbox({"orders": 1}) as fake:
        first, large, second, unknown = tk.produce_many(given)
        assert (first.offset, second.offset, second.timestamp) == (0, 1, 7)
        assert (type(large), type(unknown)) == (errors.TooLarge, errors.UnknownTopic)
        fake.assertProduced("orders", "2", key="k", headers={"a": "b"})
        settings.TK = {"REQUEST_TIMEOUT": 0.2, "DELIVERY_TIMEOUT": 0.1}
        for error in (errors.QueueFull, errors.OutcomeUnknown):
            with fake.failing(error):
                assert [type(outcome) for outcome in tk.produce_many(given[:1] * 3)] == [error] * 3
        fake.assertProduced("orders", count=2)


def test_over_http(fake, settings):
    settings.DEBUG = True
    answer = Client().post("/tkprod", "message=hello", "application/x-www-form-urlencoded")
    assert answer.content == b"Produced message."
    fake.assertProduced("sample-topic", "hello")
    line = b'{"value":"\xc3\xbc","key":"k","headers":{"a":"b","n":null}}'
    answer = Client().post("/tkprod?summary=1", line, "application/x-ndjson")
    assert b"".join(answer) == b'{"records":1,"produced":1,"failed":0}\n'
    (batched,) = fake.assertProduced("sample-topic", "ü", key="k")
    assert batched.headers == (("a", b"b"), ("n", None))


@pytest.mark.parametrize(
    ("given", "error"),
    [
        (("a/b", "x"), errors.InvalidTopic),
        (("orders", b"x" * 1_048_577), errors.TooLarge),
        (("orders", {1j}), errors.InvalidRecord),
        (("nothing", "x"), errors.UnknownTopic),
    ],
)
def test_the_errors_are_the_real_ones(given, error):
    with KafkaOutbox({"orders": 3}) as fake:
        with pytest.raises(error):
            tk.produce(*given)
        with pytest.raises(errors.InvalidPartition):
            tk.produce("orders", "x", partition=3)
        with pytest.raises(errors.InvalidHeader):
            tk.produce("orders", "x", headers={"tk-event-id": "mine"})
        fake.assertNothingProduced()


@pytest.mark.parametrize(
    "error",
    [
        *(errors.NotSent, errors.QueueFull, errors.OutcomeUnknown, errors.BrokerRefused),
        *(errors.TooLarge, errors.UnknownTopic, errors.InvalidTimestamp),
    ],
)
def test_the_broker_fails_as_asked(fake, error):
    with fake.failing(error):
        with pytest.raises(error) as raised:
            tk.produce("orders", "x")
        with pytest.raises(error):
            asyncio.run(_aproduce("orders", "x"))
    assert type(raised.value) is error
    fake.assertNothingProduced()
    tk.produce("orders", "x")
    with pytest.raises(ValueError, match="broker's"), fake.failing(errors.Forbidden):
        pass


def test_a_key_goes_to_its_partition():
    with KafkaOutbox({"orders": 8}):
        places = {key: tk.produce("orders", "x", key=key).partition for key in ("a", "b", "c", "a")}
        assert len(set(places.values())) > 1
        assert tk.produce("orders", "x", key="a").partition == places["a"]
        assert tk.produce("orders", "x", key="a").offset == 3


def test_assertions_say_what_was_there(fake):
    with pytest.raises(AssertionError, match="nothing at all"):
        fake.assertProduced("orders")
    tk.produce("orders", {"id": 1}, key="k")
    for wrong in ({"value": {"id": 2}}, {"key": "j"}, {"headers": {"a": "b"}}, {"count": 2}, {"value": "x"}):
        with pytest.raises(AssertionError, match="orders key=b'k'"):
            fake.assertProduced("orders", **wrong)
    with pytest.raises(AssertionError):
        fake.assertNothingProduced()
    with pytest.raises(AssertionError):
        fake.assertProduced("other")
    fake.clear()
    fake.assertNothingProduced()


def test_nothing_is_left_behind():
    real = (topics.metadata, topics.get, producer.Client)
    before = set(threading.enumerate())
    with KafkaOutbox():
        tk.produce("orders", "x")
    assert (topics.metadata, topics.get, producer.Client) == real
    assert {thread for thread in threading.enumerate() if thread not in before} == set()


class Published:
    """Run in a transaction of the test's own, and without one."""

    def test_a_rollback_takes_it_back(self):
        with transaction.atomic():
            event_id = tk.publish("orders", {"id": 1}, key="1", headers={"a": "b"})
            tk.produce("orders", "between")
            with transaction.atomic():
                tk.publish("orders", {"id": 2})
                transaction.set_rollback(True)
            publish_many([tk.Record("orders", b"3"), tk.Record("orders", b"4")])
        with transaction.atomic():
            tk.publish("orders", {"id": 5})
            transaction.set_rollback(True)
        (first,) = self.assertProduced("orders", {"id": 1}, key="1", headers={"a": "b"})
        assert first.event_id == str(event_id)
        assert [m.value for m in self.kafka_outbox.messages] == [b'{"id":1}', b"between", b"3", b"4"]

    def test_each_test_begins_with_nothing(self):
        self.assertNothingProduced()


class InATransaction(KafkaTestMixin, Published, TestCase):
    pass


class WithoutOne(KafkaTestMixin, Published, TransactionTestCase):
    pass
