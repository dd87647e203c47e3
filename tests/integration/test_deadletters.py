"""Dead letters: in their topic, and what people do with them."""

import time
from io import StringIO
from typing import Any

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Permission, User
from django.core.management import CommandError, call_command
from django.db import OperationalError

from tests.integration.consuming import running
from tests.integration.handling import PAUSES, letters, note, noted, text
from tests.waiting import eventually
from tk.access import CODE, Caller
from tk.errors import Forbidden
from tk.record import EVENT_ID_HEADER
from tkcons import deadletters, handler
from tkcons.errors import UnknownLetter
from tkcons.groups import spec
from tkcons.models import DeadLetter, Member, Position

pytestmark = [
    pytest.mark.kafka,
    pytest.mark.django_db(transaction=True),
    pytest.mark.usefixtures("handlers_of_the_test"),
]


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
