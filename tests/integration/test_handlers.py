"""Handlers on the real broker: effects once and in order, batches, tries."""

import itertools
import time

import pytest
from confluent_kafka import Producer
from django.contrib.auth.models import Group as Role

from tests.integration.consuming import running
from tests.integration.handling import PAUSES, letters, note, noted, text
from tests.waiting import eventually
from tk.record import EVENT_ID_HEADER
from tkcons import Reject, handler
from tkcons.groups import spec
from tkcons.models import Member, Position

pytestmark = [
    pytest.mark.kafka,
    pytest.mark.django_db(transaction=True),
    pytest.mark.usefixtures("handlers_of_the_test"),
]


def test_each_message_once_in_order(send, topic, group):
    @handler(topic, group=group)
    def keep(message):
        note(text(message))

    send(topic, *range(50))
    with running(spec(group)):
        eventually(lambda: len(noted()) == 50)
        send(topic, *range(50, 60))
        eventually(lambda: len(noted()) == 60)
    assert noted() == [str(number) for number in range(60)]
    assert Position.objects.get(group=group).next_offset == 60


def test_batches_of_at_most_so_many(send, topic, group):
    sizes = []

    @handler(topic, group=group, batch=20)
    def keep(messages):
        sizes.append(len(messages))
        for message in messages:
            note(text(message))

    send(topic, *range(50))
    with running(spec(group)):
        eventually(lambda: len(noted()) == 50)
    assert max(sizes) <= 20
    assert noted() == [str(number) for number in range(50)]


def test_an_async_handlers_writes_are_in_the_transaction(send, topic, group):
    tries = []

    @handler(topic, group=group, pauses=PAUSES, tries=3)
    async def keep(message):
        await Role.objects.acreate(name=text(message))
        tries.append(text(message))
        if text(message) == "1" and tries.count("1") < 3:
            raise ValueError("not yet")

    send(topic, 0, 1, 2)
    with running(spec(group)):
        eventually(lambda: len(noted()) == 3)
    assert noted() == ["0", "1", "2"]  # what the failed tries wrote was rolled back
    assert letters(group) == []


def test_a_failed_try_leaves_nothing_and_its_neighbours_are_handled_in_order(send, topic, group):
    @handler(topic, group=group, tries=3, pauses=PAUSES)
    def keep(message):
        note(text(message))
        if text(message) in {"3", "7"}:
            raise ValueError("poison")

    send(topic, *range(10))
    with running(spec(group)):
        eventually(lambda: len(noted()) == 8 and len(letters(group)) == 2)
    assert noted() == ["0", "1", "2", "4", "5", "6", "8", "9"]
    assert [letter.offset for letter in letters(group)] == [3, 7]
    letter = letters(group)[0]
    assert letter.cause == "ValueError: poison"
    assert "test_handlers.py" in letter.traceback
    assert letter.tries == 3
    assert bytes(letter.value) == b"3"
    assert Position.objects.get(group=group).next_offset == 10


def test_a_message_is_tried_just_so_often_with_growing_pauses(send, topic, group):
    times = []

    @handler(topic, group=group, tries=4, pauses=(0.1, 10.0))
    def keep(message):
        times.append(time.monotonic())
        raise ValueError("poison")

    send(topic, 0)
    with running(spec(group)):
        eventually(lambda: letters(group))
    assert len(times) == 4
    pauses = [later - earlier for earlier, later in itertools.pairwise(times)]
    assert pauses[0] >= 0.1
    assert pauses[1] >= 0.2
    assert pauses[2] >= 0.4


def test_a_failing_batch_is_cut_until_its_poison_stands_alone(send, topic, group):
    @handler(topic, group=group, batch=64, tries=2, pauses=PAUSES)
    def keep(messages):
        for message in messages:
            note(text(message))
        if any(text(message) in {"11", "40"} for message in messages):
            raise ValueError("poison somewhere")

    send(topic, *range(64))
    with running(spec(group)):
        eventually(lambda: len(noted()) == 62 and len(letters(group)) == 2)
    assert noted() == [str(number) for number in range(64) if number not in {11, 40}]
    assert [letter.offset for letter in letters(group)] == [11, 40]


def test_a_partition_that_waits_does_not_hold_the_others_up(send, make_topic, group):
    topic = make_topic(2)

    @handler(topic, group=group, tries=None, pauses=(0.2, 0.2))
    def keep(message):
        note(text(message))
        if text(message) == "poison":
            raise ValueError("never")

    send(topic, "poison", "behind", partition=0)
    with running(spec(group)):
        send(topic, *range(5), partition=1)
        eventually(lambda: len(noted()) == 5)
        eventually(lambda: any("never" in member.error for member in Member.objects.all()))
        send(topic, "after", partition=1)  # a success elsewhere does not hide the reason
        eventually(lambda: len(noted()) == 6)
        time.sleep(0.5)
        assert any("never" in member.error for member in Member.objects.all())
    assert noted() == ["0", "1", "2", "3", "4", "after"]
    assert letters(group) == []


def test_a_rejected_message_is_not_tried_again(send, topic, group):
    seen = []

    @handler(topic, group=group, batch=10)
    def keep(messages):
        for message in messages:
            seen.append(text(message))
            if text(message) == "2":
                raise Reject("no such order", message)

    send(topic, *range(5))
    with running(spec(group)):
        eventually(lambda: letters(group) and "4" in seen)
    assert seen.count("2") == 1
    (letter,) = letters(group)
    assert (letter.offset, letter.cause) == (2, "Reject: no such order")


def test_a_repeated_event_is_handled_once(broker, topic, group):
    @handler(topic, group=group)
    def keep(message):
        note(text(message))

    producer = Producer({"bootstrap.servers": broker})
    for value in ("a", "a again", "b"):
        producer.produce(topic, value, headers=[(EVENT_ID_HEADER, value[0].encode())])
    assert producer.flush(10) == 0
    with running(spec(group)):
        eventually(lambda: noted() == ["a", "b"])
    assert Position.objects.get(group=group).next_offset == 3
