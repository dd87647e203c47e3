"""What handlers refuse at import, and run_consumer for the tests of our users' handlers."""

import dataclasses
import json

import msgspec
import pytest
from confluent_kafka import Message
from django.contrib.auth.models import Group as Role
from django.core.checks import run_checks
from django.core.exceptions import ImproperlyConfigured
from django.test import TestCase

from tk.errors import InvalidTopic
from tkcons import groups, handler, handlers
from tkcons.errors import UnknownGroup
from tkcons.models import DeadLetter
from tkcons.received import Messages, Received, decoder
from tkcons.testing import run_consumer


@pytest.fixture(autouse=True)
def _registry(monkeypatch):
    monkeypatch.setattr(handlers, "registry", {})
    for module in ("tkcons.groups", "tkcons.testing", "tkcons.checks"):
        monkeypatch.setattr(f"{module}.registry", handlers.registry)


@pytest.mark.parametrize(
    ("topics", "options", "error"),
    [
        ([], {}, ImproperlyConfigured),
        (["no topic!"], {}, InvalidTopic),
        (["a"], {"dead_letter": "no topic!"}, InvalidTopic),
        (["a"], {"dead_letter": "a"}, ImproperlyConfigured),
        (["a"], {"batch": 0}, ImproperlyConfigured),
        (["a"], {"tries": 0}, ImproperlyConfigured),
        (["a"], {"decode": 7}, TypeError),
    ],
)
def test_what_makes_no_sense_is_refused_where_it_is_written(topics, options, error):
    with pytest.raises(error):
        handler(*topics, group="g", **options)


def test_a_group_has_one_handler():
    @handler("a", group="g")
    def first(message): ...

    with pytest.raises(ImproperlyConfigured, match=r"has a handler already: .*first"):

        @handler("a", group="g")
        def second(message): ...


def test_a_handlers_group_is_one_of_the_groups(settings):
    settings.TKCONS = {"SINKS": {}}

    @handler("a", "b", group="g", start="latest")
    def first(message): ...

    assert groups.specs()["g"].topics == ("a", "b")
    assert groups.spec("g").start == "latest"
    with pytest.raises(UnknownGroup):
        groups.spec("h")


def test_a_sink_under_a_handlers_group_is_told(settings):
    settings.TKCONS = {"SINKS": {"s": {"class": "tkcons.sinks.DatabaseSink", "topics": ["a"], "group": "g"}}}
    assert "tkcons.E003" not in [message.id for message in run_checks(tags=["tkcons"])]

    @handler("a", group="g")
    def first(message): ...

    assert "tkcons.E003" in [message.id for message in run_checks(tags=["tkcons"])]


def test_a_start_that_is_none_is_told(settings):
    sink = {"class": "tkcons.sinks.DatabaseSink", "topics": ["a"], "start": "soon"}
    settings.TKCONS = {"SINKS": {"s": sink}}
    assert "tkcons.E002" in [message.id for message in run_checks(tags=["tkcons"])]


class Model:
    """As pydantic's models read JSON."""

    @classmethod
    def model_validate_json(cls, data):
        return ("model", data)


@dataclasses.dataclass
class Point:
    x: int


@pytest.mark.parametrize(
    ("wanted", "value", "expected"),
    [
        (bytes, b"\xff", b"\xff"),
        (str, "ü".encode(), "ü"),
        (dict, b'{"a":1}', {"a": 1}),
        (list[Point], b'[{"x":1}]', [Point(1)]),
        (Model, b"{}", ("model", b"{}")),
        (Point, None, None),
        (str, None, None),
    ],
)
def test_decoding(wanted, value, expected):
    assert decoder(wanted)(Message(topic="t", partition=0, offset=0, value=value)) == expected


@pytest.mark.parametrize(("wanted", "value"), [(str, b"\xff"), (dict, b"[1]"), (Point, b'{"x":"1"}'), (dict, b"")])
def test_what_cannot_be_decoded_raises(wanted, value):
    with pytest.raises((ValueError, msgspec.MsgspecError)):
        decoder(wanted)(Message(topic="t", partition=0, offset=0, value=value))


@pytest.mark.parametrize("values", [None, ["v0", "v1", "v2"]])
def test_a_batch_is_a_sequence(values):
    kafka = [Message(topic="t", partition=0, offset=n, value=b"v%d" % n) for n in range(3)]
    messages = Messages(kafka, values)
    expected = [Received(each, values[n] if values else each.value()) for n, each in enumerate(kafka)]
    assert list(messages) == expected == [messages[n] for n in range(3)]
    assert list(messages[1:]) == expected[1:]
    assert len(messages[1:]) == 2
    assert messages[-1].offset == 2
    assert list(reversed(messages)) == expected[::-1]
    assert expected[1] in messages
    assert repr(messages[2:]) == f"Messages([{expected[2]!r}])"
    with pytest.raises(IndexError):
        messages[3]
    with pytest.raises(TypeError):
        messages[0] = expected[0]


class RunConsumer(TestCase):
    """Inside TestCase: its transaction holds all of it."""

    def test_effects_letters_and_later_calls(self):
        @handler("orders", group="billing", decode=dict, tries=2, dead_letter="orders.dead")
        def bill(message):
            Role.objects.create(name=f"order {message.value['id']}")
            if message.value["id"] == 2:
                raise ValueError("no customer")

        consumed = run_consumer(bill, [{"id": 1}, {"id": 2}, {"id": 3}, b"{broken"])
        assert consumed.handled == 2
        assert [letter.cause.split(":")[0] for letter in consumed.dead_letters] == ["ValueError", "DecodeError"]
        assert [letter.tries for letter in consumed.dead_letters] == [2, 0]
        assert sorted(Role.objects.values_list("name", flat=True)) == ["order 1", "order 3"]
        again = run_consumer(bill, [{"id": 4}])
        assert again == (1, [])
        assert DeadLetter.objects.count() == 2

    def test_a_letter_cites_what_no_database_stores(self):
        @handler("orders", group="billing", dead_letter="orders.dead", tries=1)
        def bill(message):
            raise ValueError(json.loads(message.value)["name"])

        with self.assertLogs("tkcons.sinks.handler", "ERROR"):  # caught here: no text of a report can hold it either
            (letter,) = run_consumer(bill, [rb'{"name": "\ud800\u0000"}']).dead_letters
        assert letter.cause == r"ValueError: \ud800\0"
        assert letter.traceback.endswith("ValueError: \\ud800\\0\n")

    def test_kafkas_messages_keep_their_parts(self):
        seen = []

        @handler("orders", group="billing", batch=10)
        def bill(messages):
            seen.extend((each.key, each.value, each.headers, each.timestamp) for each in messages)

        given = Message(topic="x", partition=7, offset=9, key=b"k", value=b"v", headers=[("a", b"b")], timestamp=(1, 5))
        assert run_consumer(bill, [given, given]).handled == 2
        assert seen == [(b"k", b"v", [("a", b"b")], 5)] * 2

    def test_without_a_limit_of_tries_the_error_is_raised(self):
        @handler("orders", group="billing", tries=None)
        def bill(message):
            raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            run_consumer(bill, [b"x"])

    def test_what_is_no_handler(self):
        with pytest.raises(UnknownGroup):
            run_consumer(print, [b"x"])
