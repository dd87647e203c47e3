"""Handlers on the real broker: effects once, tries, dead letters, and what people do with them."""

import asyncio
import dataclasses
import datetime as dt
import itertools
import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from io import StringIO
from typing import Any

import msgspec
import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Group as Role
from django.contrib.auth.models import Permission, User
from django.core.management import CommandError, call_command
from django.db import OperationalError, connection
from pydantic import BaseModel

from tests.integration.consuming import QUICK, held, running
from tests.waiting import eventually
from tk import produce
from tk.access import CODE, Caller
from tk.errors import Forbidden
from tk.record import EVENT_ID_HEADER
from tkcons import Received, Reject, deadletters, groups, handler, handlers
from tkcons.errors import UnknownLetter
from tkcons.groups import spec
from tkcons.models import DeadLetter, Member, Position

pytestmark = [pytest.mark.kafka, pytest.mark.django_db(transaction=True)]

PAUSES = (0.05, 0.2)


@pytest.fixture(autouse=True)
def _settings(settings, broker, monkeypatch):
    settings.TKCONS = QUICK
    monkeypatch.setattr(handlers, "registry", dict(handlers.registry))
    monkeypatch.setattr(groups, "registry", handlers.registry)


def note(name: str) -> None:
    """A handler's effect in the database: a row that can be counted."""
    Role.objects.create(name=name)  # the name is unique: a second time fails


def noted() -> list[str]:
    return list(Role.objects.order_by("pk").values_list("name", flat=True))


def text(message: Received) -> str:
    return bytes(message.value).decode()


def letters(group: str) -> list[DeadLetter]:
    return list(DeadLetter.objects.filter(group=group).order_by("offset"))


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


# Dead letters in their topic.


def dead_messages(broker: str, topic: str, count: int) -> list[Any]:
    consumer = Consumer({"bootstrap.servers": broker, "group.id": "reader", "auto.offset.reset": "earliest"})
    consumer.assign([TopicPartition(topic, 0, 0)])
    found: list[Any] = []
    deadline = time.monotonic() + 15
    while len(found) < count and time.monotonic() < deadline:
        found += [message for message in consumer.consume(10, 0.5) if message.error() is None]
    consumer.close()
    return found


def test_a_dead_letter_is_in_its_topic_with_its_origin_before_the_offset_passes(broker, make_topic, group):
    topic, dead = make_topic(), make_topic()

    @handler(topic, group=group, tries=1, dead_letter=dead)
    def keep(message):
        raise ValueError("grüße\n")

    producer = Producer({"bootstrap.servers": broker})
    # A name and a size that this installation would refuse from its clients: they come from Kafka.
    producer.produce(
        topic, b"v", key=b"k", headers=[("a\tb", b"\xff"), (EVENT_ID_HEADER, b"e1"), ("big", b"x" * 20_000)]
    )
    assert producer.flush(10) == 0
    with running(spec(group)):
        eventually(lambda: letters(group))
    (message,) = dead_messages(broker, dead, 1)
    (letter,) = letters(group)
    assert (message.key(), message.value()) == (b"k", b"v")
    headers = dict(message.headers())
    assert headers["a\tb"] == b"\xff"
    assert headers["dead-letter-topic"] == topic.encode()
    assert headers["dead-letter-offset"] == b"0"
    assert headers["dead-letter-partition"] == b"0"
    assert headers["dead-letter-group"] == group.encode()
    assert headers["dead-letter-tries"] == b"1"
    assert headers["dead-letter-cause"] == "ValueError: grüße\n".encode()
    assert headers["dead-letter-id"] == letter.pk.encode()
    assert [value for name, value in message.headers() if name == EVENT_ID_HEADER] == [f"dead-{letter.pk}".encode()]
    assert (letter.dead_topic, letter.dead_partition, letter.dead_offset) == (dead, 0, 0)


def test_the_partition_waits_while_the_dead_letter_topic_is_not_there(send, make_topic, kafka_admin, group, settings):
    settings.TK = {"METADATA_SECONDS": 0.1}
    topic = make_topic()
    dead = f"{topic}.dead"

    @handler(topic, group=group, tries=1, pauses=PAUSES, dead_letter=dead)
    def keep(message):
        if text(message) == "0":
            raise ValueError("poison")
        note(text(message))

    send(topic, 0, 1)
    with running(spec(group)):
        eventually(lambda: any(dead in member.error for member in Member.objects.all()))
        assert noted() == []
        assert letters(group) == []
        make_topic(name=dead)
        eventually(lambda: noted() == ["1"])
    assert letters(group)[0].dead_topic == dead


def test_a_letter_sent_twice_around_a_crash_is_listed_once(send, broker, make_topic, group, monkeypatch):
    topic, dead = make_topic(), make_topic()

    @handler(topic, group=group, tries=1, dead_letter=dead, pauses=PAUSES)
    def keep(message):
        raise ValueError("poison")

    store, crashes = deadletters.store, []

    def crash(letter, using):
        if not crashes:
            crashes.append(letter)
            raise OperationalError("the database went away after the letter was sent")
        store(letter, using)

    monkeypatch.setattr(deadletters, "store", crash)
    send(topic, 0)
    with running(spec(group)):
        eventually(lambda: letters(group))
    first, second = dead_messages(broker, dead, 2)
    assert (
        first.headers() == second.headers()
        or dict(first.headers())["dead-letter-id"] == dict(second.headers())["dead-letter-id"]
    )
    assert len(letters(group)) == 1
    assert Position.objects.get(group=group).next_offset == 1


# What people do with dead letters.


@pytest.fixture
def poisoned(send, topic, group):
    """A handler that fails while `broken` says so; its group has one dead letter."""
    state = {"broken": True, "headers": []}

    @handler(topic, group=group, tries=1)
    def keep(message):
        state["headers"].append(message.headers)
        if state["broken"]:
            note("leftover")
            raise ValueError("poison")
        note(text(message))

    send(topic, "x")
    with running(spec(group)):
        eventually(lambda: letters(group))
    return state


def test_a_resent_letter_is_handled_alone_under_a_new_event_id(poisoned, group, topic):
    poisoned["broken"] = False
    (letter,) = letters(group)
    assert deadletters.resend([letter.pk], CODE) == 1
    with running(spec(group)):
        eventually(lambda: letters(group)[0].state == DeadLetter.State.RESENT)
    assert noted() == ["x"]
    assert letters(group)[0].changed_by == "django"
    (name, value) = poisoned["headers"][-1][-1]
    assert name == EVENT_ID_HEADER
    assert len(value) == 36
    with pytest.raises(UnknownLetter):  # settled
        deadletters.resend([letter.pk], CODE)


def test_a_resent_letter_that_fails_again_waits_again(poisoned, group):
    (letter,) = letters(group)
    deadletters.resend([letter.pk], CODE)
    with running(spec(group)):
        eventually(lambda: letters(group)[0].tries == 2)
    (letter,) = letters(group)
    assert letter.state == DeadLetter.State.WAITING
    assert noted() == []


def test_a_letter_that_was_discarded_meanwhile_is_not_handled(poisoned, group):
    poisoned["broken"] = False
    (letter,) = letters(group)
    deadletters.resend([letter.pk], CODE)
    (taken,) = deadletters.take(group, 10, "default")
    deadletters.discard([letter.pk], CODE)
    sink = spec(group).sink()
    sink._handle_letter(taken)
    assert noted() == []
    assert letters(group)[0].state == DeadLetter.State.DISCARDED


def test_who_may_not_settle_letters_does_not(poisoned, group):
    (letter,) = letters(group)
    user = User.objects.create_user("eve")
    for change in (deadletters.resend, deadletters.discard):
        with pytest.raises(Forbidden):
            change([letter.pk], Caller("eve", user))
    with pytest.raises(Forbidden):
        deadletters.waiting(Caller("eve", user))
    with pytest.raises(UnknownLetter):  # a token bound to other topics
        deadletters.discard([letter.pk], Caller("t", None, frozenset({deadletters.SETTLE}), ("other.*",)))
    assert letters(group)[0].state == DeadLetter.State.WAITING


def test_the_admin_shows_searches_and_settles_with_a_record_of_who_did(poisoned, group, client):
    (letter,) = letters(group)
    user = User.objects.create_user("olga", is_staff=True)
    user.user_permissions.add(Permission.objects.get(codename="view_deadletter"))
    client.force_login(user)
    page = "/admin/tkcons/deadletter/"
    assert letter.pk in client.get(page, {"q": "poison"}).content.decode()
    assert letter.pk not in client.get(page, {"q": "x"}).content.decode()  # it is in the value, which is not for all
    user.user_permissions.add(Permission.objects.get(codename="view_payload"))
    assert letter.pk in client.get(page, {"q": "x"}).content.decode()
    assert letter.pk not in client.get(page, {"q": "nothing like it"}).content.decode()
    assert "ValueError: poison" in client.get(f"{page}{letter.pk}/change/").content.decode()
    asked = {"action": "discard", "_selected_action": [letter.pk]}
    client.post(page, asked)
    assert letters(group)[0].state == DeadLetter.State.WAITING  # not allowed yet
    user.user_permissions.add(Permission.objects.get(codename="settle_deadletter"))
    assert "Discard 1 dead letter?" in client.post(page, asked).content.decode()
    assert letters(group)[0].state == DeadLetter.State.WAITING  # not said yes yet
    assert "1:" in client.post(page, asked | {"sure": "1"}, follow=True).content.decode()
    assert letters(group)[0].state == DeadLetter.State.DISCARDED
    assert letters(group)[0].changed_by == "olga"
    assert LogEntry.objects.get().get_change_message() == "discarded"


def test_the_command_lists_shows_resends_and_discards(poisoned, group):
    (letter,) = letters(group)

    def run(*arguments: str) -> str:
        out = StringIO()
        call_command("deadletters", *arguments, stdout=out)
        return out.getvalue()

    assert letter.pk in run("list")
    assert run("list", "--search", "nothing like it") == ""
    assert "Traceback" in run("show", letter.pk)
    with pytest.raises(CommandError, match="Name the letters"):
        run("resend")
    assert "1 dead letters" in run("resend", "--group", group)
    assert letters(group)[0].state == DeadLetter.State.REQUESTED
    assert "discarded" in run("discard", letter.pk)
    assert run("list") == ""
    with pytest.raises(CommandError):
        run("discard", letter.pk)


# Handlers that hang or end their process, and databases that go away.


@contextmanager
def consuming(broker: str, topic: str, path: Any, **env: str):
    """`manage.py consume` with the handlers of tests/handling, on the test's database."""
    given = {
        **os.environ,
        "KAFKA_BROKER_URL": broker,
        "DATABASE_URL": f"sqlite:///{connection.settings_dict['NAME']}",
        "CONSUME_TOPIC": topic,
        "DJANGO_SETTINGS_MODULE": "tests.handling.settings",
        **env,
    }
    with path.open("ab") as log:
        process = subprocess.Popen([sys.executable, "manage.py", "consume"], env=given, stdout=log, stderr=log)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def test_a_message_that_kills_its_process_is_a_dead_letter_in_the_end(send, broker, topic, tmp_path):
    send(topic, 0, "kill", 2)
    deaths = 0
    for _ in range(8):
        with consuming(broker, topic, tmp_path / "log") as process:
            eventually(lambda process=process: process.poll() is not None or len(noted()) == 2, 40)
            if process.poll() is None:
                break
            assert process.returncode == -signal.SIGKILL
            deaths += 1
    assert noted() == ["0", "2"]
    (letter,) = letters("handling")
    assert (letter.offset, letter.tries) == (1, 2)
    assert letter.cause.startswith("ProcessEnded")
    assert deaths == 3  # once among others, then alone as often as tries says


def test_a_handler_that_hangs_ends_its_process_and_counts_as_a_try(send, broker, topic, tmp_path):
    send(topic, "hang")
    with consuming(broker, topic, tmp_path / "log") as process:
        eventually(lambda: process.poll() is not None, 40)
        assert process.returncode == 1
    assert "has not returned within its timeout" in (tmp_path / "log").read_text()
    assert Position.objects.get(group="handling").tries == 1


def test_an_async_handler_is_cancelled_at_its_timeout(send, topic, group):
    @handler(topic, group=group, tries=1, timeout=0.3)
    async def keep(message):
        await asyncio.sleep(60)

    send(topic, 0)
    with running(spec(group)):
        eventually(lambda: letters(group))
    assert letters(group)[0].cause.startswith("TimeoutError")


def test_a_slow_handler_keeps_its_place_in_the_group(send, topic, group, settings):
    """As much waits as may, so polling itself has to wait, but not for as long as the handler."""
    settings.KAFKA_CLIENT = {"max.poll.interval.ms": 6000, "session.timeout.ms": 6000}
    settings.TKCONS = {**QUICK, "BATCH": 2}
    generations = []

    @handler(topic, group=group)
    def keep(message):
        generations.append(Position.objects.get(group=group).generation)
        if text(message) == "0":
            time.sleep(7.5)
        note(text(message))

    send(topic, *range(6))
    with running(spec(group)):
        eventually(lambda: len(noted()) == 6, 40)
    assert noted() == [str(number) for number in range(6)]
    assert set(generations) == {1}  # never taken away


def test_an_outage_of_the_database_is_no_messages_fault(send, topic, group):
    calls = []

    @handler(topic, group=group, tries=1)
    def keep(message):
        calls.append(1)
        if len(calls) < 4:
            raise OperationalError("database is locked")
        note(text(message))

    send(topic, 0)
    with running(spec(group)):
        eventually(lambda: noted() == ["0"])
    assert letters(group) == []


def test_a_stop_comes_between_messages_of_a_slow_handler(send, topic, group):
    @handler(topic, group=group)
    def keep(message):
        time.sleep(0.4)
        note(text(message))

    send(topic, *range(100))
    with running(spec(group)) as runner:
        eventually(lambda: Position.objects.filter(group=group, next_offset__gt=0).exists() or noted() or held(group))
        began = time.monotonic()
        runner.stop()
    assert time.monotonic() - began < 15
    position = Position.objects.get(group=group)
    assert noted() == [str(number) for number in range(position.next_offset)]
