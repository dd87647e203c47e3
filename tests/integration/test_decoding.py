"""What a handler's messages are decoded to, and what becomes of those that cannot be."""

import dataclasses
import datetime as dt

import msgspec
import pytest
from confluent_kafka import Producer
from pydantic import BaseModel

from tests.integration.consuming import running
from tests.integration.handling import letters
from tests.waiting import eventually
from tk import produce
from tkcons import handler
from tkcons.groups import spec

pytestmark = [
    pytest.mark.kafka,
    pytest.mark.django_db(transaction=True),
    pytest.mark.usefixtures("handlers_of_the_test"),
]


@dataclasses.dataclass
class Order:
    id: int


class Paid(msgspec.Struct):
    id: int


@pytest.mark.parametrize(
    ("decode", "expected"),
    [
        (bytes, b'{"id": 7}'),
        (str, '{"id": 7}'),
        (dict, {"id": 7}),
        (dict[str, int], {"id": 7}),
        (Order, Order(7)),
        (Paid, Paid(7)),
        (lambda message: (message.topic() is not None, message.value()), (True, b'{"id": 7}')),
    ],
)
def test_values_are_decoded_and_bad_ones_are_dead_letters_at_once(send, topic, group, decode, expected):
    found = []

    @handler(topic, group=group, decode=decode)
    def keep(message):
        found.append(message.value)

    send(topic, '{"id": 7}')
    if decode in {Order, Paid, dict}:
        send(topic, "{broken", '{"id": 7}')
    with running(spec(group)):
        if decode in {Order, Paid, dict}:
            eventually(lambda: len(found) == 2)
            (letter,) = letters(group)
            assert letter.offset == 1
            assert letter.tries == 0
        eventually(lambda: len(found) >= 1)
    assert found[0] == expected


class Invoice(BaseModel):
    id: int
    due: dt.date


def test_a_pydantic_model_from_produce_to_the_handler(topic, group):
    found = []

    @handler(topic, group=group, decode=Invoice)
    def keep(message):
        found.append(message.value)

    sent = Invoice(id=7, due=dt.date(2026, 11, 24))
    for value in (sent, b'{"id": "seven", "due": "2026-11-24"}', b"{broken", b'{"id": 8}', None, sent):
        produce(topic, value, key="k")
    with running(spec(group)):
        eventually(lambda: len(found) == 3 and len(letters(group)) == 3)
    assert found == [sent, None, sent]
    assert [(letter.offset, letter.tries) for letter in letters(group)] == [(1, 0), (2, 0), (3, 0)]
    assert all(letter.cause.startswith("ValidationError") for letter in letters(group))


def test_bytes_that_are_no_utf_8_and_a_tombstone(broker, topic, group):
    found = []

    @handler(topic, group=group, decode=str)
    def keep(message):
        found.append((message.key, message.value, message.headers))

    producer = Producer({"bootstrap.servers": broker})
    producer.produce(topic, b"\xff\x00", key=b"bad")
    producer.produce(topic, None, key=b"gone", headers=[("a", b"b")])
    assert producer.flush(10) == 0
    with running(spec(group)):
        eventually(lambda: found and letters(group))
    assert found == [(b"gone", None, [("a", b"b")])]
    assert bytes(letters(group)[0].value) == b"\xff\x00"


def test_a_message_of_ten_megabytes_is_a_dead_letter_in_the_database(broker, make_topic, group):
    topic, dead = make_topic(max_message_bytes="12000000"), make_topic()

    @handler(topic, group=group, tries=1, dead_letter=dead)
    def keep(message):
        raise ValueError("too much")

    producer = Producer({"bootstrap.servers": broker, "message.max.bytes": 12_000_000})
    producer.produce(topic, b"x" * 10_000_000)
    assert producer.flush(20) == 0
    with running(spec(group)):
        eventually(lambda: letters(group), 30)
    (letter,) = letters(group)
    assert len(letter.value) == 10_000_000
    assert letter.dead_topic == ""
    assert f"not in {dead}" in letter.cause
