"""Idempotency-Key on SQLite and PostgreSQL, the real broker, and to the end: stored once by a sink of tkcons."""

import os
import signal
import subprocess
import sys
import threading
import time
from datetime import timedelta

import dj_database_url
import pytest
from django.db import connections, transaction
from django.test import Client
from django.utils import timezone

from tests.integration.consuming import QUICK, database, running, values
from tests.waiting import eventually
from tk import errors, idempotency, producer
from tk.answer import Answer
from tk.idempotency import Name, once
from tk.models import IdempotentRequest
from tk.record import Record
from tklocal.kafka import Cluster

pytestmark = [pytest.mark.kafka, pytest.mark.postgres]

FORM = "application/x-www-form-urlencoded"
JSON = "application/json"


class Router:
    """Every row of IdempotentRequest lives under `alias`."""

    alias = "default"

    def db_for_write(self, model, **hints):
        return self.alias if model is IdempotentRequest else None

    db_for_read = db_for_write


@pytest.fixture
def rows(alias, settings, monkeypatch):
    monkeypatch.setattr(Router, "alias", alias)
    settings.DATABASE_ROUTERS = [Router()]
    return IdempotentRequest.objects.using(alias)


@pytest.fixture
def post(settings, broker, topic, rows):
    """``post(key, body)`` as the person at this machine."""
    settings.DEBUG = True
    settings.TK = {"TOPIC": topic}

    def send(key: str, body: str = "message=hello", accept: str = "", kind: str = FORM):
        return Client().post("/tkprod", body, kind, headers={"Idempotency-Key": key, "Accept": accept})

    return send


def write(receipt):
    return Answer(200, "text/plain", str(receipt.offset).encode())


def ids(messages):
    return [message.headers()[0] for message in messages]


def test_a_repeat_gets_the_first_answer_and_sends_nothing(post, read, topic, rows):
    first = post("k", accept=JSON)
    assert (first.status_code, first.json()["offset"]) == (200, 0)
    again = post("k")  # whatever it accepts now
    assert (again.status_code, again.content, again["Content-Type"]) == (200, first.content, first["Content-Type"])
    assert post("other").content == b"Produced message."
    assert len(read(topic)) == 2
    assert all(row.created_at < row.answered_at for row in rows.all())
    assert len({row.event_id for row in rows.all()}) == 2
    assert ids(read(topic)) == [("tk-event-id", str(row.event_id).encode()) for row in rows.order_by("pk")]


def test_the_same_message_written_otherwise_is_the_same_request(post, read, topic):
    post("k", "message=hello&key=a")
    assert post("k", '{"key": "a", "message": "hello"}', kind=JSON).status_code == 200
    assert len(read(topic)) == 1


@pytest.mark.parametrize("body", ["message=other", "message=hello&key=k", "message=hello&partition=0"])
def test_a_key_of_another_message_is_refused(post, read, topic, body):
    post("k")
    answer = post("k", body)
    assert (answer.status_code, answer["X-Error-Code"]) == (422, "idempotency_key_reused")
    assert len(read(topic)) == 1


def test_callers_methods_and_paths_have_keys_of_their_own(alias, broker, topic, read, rows):
    record, name = Record(topic, b"x"), Name("user 1", "POST", "/tkprod", "k")
    names = [name, name._replace(caller="token 1"), name._replace(method="GET"), name._replace(path="/a/tkprod")]
    assert [once(each, record, write)[0].body for each in names] == [b"0", b"1", b"2", b"3"]
    assert [once(each, record, write) for each in names] == [(write_of(n), True) for n in range(4)]
    assert len(read(topic)) == 4


def write_of(offset: int) -> Answer:
    return Answer(200, "text/plain", str(offset).encode())


def test_paths_that_begin_alike_are_not_taken_for_each_other(alias, broker, topic, rows):
    name = Name("user 1", "POST", "/" + "a" * 600, "k")
    once(name, Record(topic, b"x"), write)
    with pytest.raises(errors.KeyReused):
        once(name._replace(path=name.path + "b"), Record(topic, b"x"), write)


@pytest.mark.parametrize("key", ["", "a b", "a,b", "ü", "k" * 256, "a\tb"])
def test_keys_that_are_none(post, read, topic, rows, key):
    answer = post(key)
    assert (answer.status_code, answer["X-Error-Code"]) == (400, "invalid_idempotency_key")
    assert (len(read(topic)), rows.count()) == (0, 0)


def test_the_longest_key_and_bad_input(post, rows):
    assert post("k" * 255).status_code == 200
    assert post("bad", "message=").status_code == 400
    assert post("bad", "message=x&topic=a/b").status_code == 400
    assert rows.count() == 1


def test_strangers_are_refused_before_their_key_is_looked_at(post, settings, rows):
    settings.DEBUG = False
    assert post("k").status_code == 401
    assert rows.count() == 0


def test_in_flight_is_told(alias, post, read, topic, rows):
    idempotency._claim(
        Name("local", "POST", "/tkprod", "k"), idempotency._fingerprint("/tkprod", Record(topic, b"hello")), alias
    )
    answer = post("k")
    assert (answer.status_code, answer["X-Error-Code"], answer["Retry-After"]) == (409, "in_flight", "1")
    assert post("k", "message=other").status_code == 422
    assert read(topic) == []


def test_of_racing_requests_one_sends(alias, post, read, topic):
    began = threading.Barrier(8)
    answers = []

    def go():
        began.wait(10)
        for _ in range(100):
            answer = post("k", accept=JSON)
            if answer.status_code != 409:
                break
            time.sleep(0.02)
        answers.append((answer.status_code, answer.content))
        connections.close_all()

    threads = [threading.Thread(target=go) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len(answers) == 8
    assert {status for status, _ in answers} == {200}
    assert len(set(answers)) == 1
    assert len(read(topic)) == 1


def test_inside_a_transaction_nothing_is_sent(alias, broker, topic, rows, read):
    with transaction.atomic(using=alias), pytest.raises(RuntimeError, match="durable"):
        once(Name("user 1", "POST", "/tkprod", "k"), Record(topic, b"x"), write)
    assert read(topic) == []


def test_with_atomic_requests_the_row_is_committed_before_sending(alias, post, rows, monkeypatch):
    monkeypatch.setitem(connections[alias].settings_dict, "ATOMIC_REQUESTS", 1)
    seen = []

    def look(record, event_id):
        def elsewhere():
            seen.append(rows.filter(event_id=event_id, answer=None).count())
            connections.close_all()

        thread = threading.Thread(target=elsewhere)
        thread.start()
        thread.join(10)
        return send(record, event_id)

    send = producer.send
    monkeypatch.setattr(producer, "send", look)
    assert post("k").status_code == 200
    assert seen == [1]


@pytest.mark.parametrize("error", [errors.NotSent, errors.QueueFull, errors.UnknownTopic, errors.BrokerRefused])
def test_what_was_certainly_not_sent_is_not_remembered(post, rows, monkeypatch, error):
    with monkeypatch.context() as patched:
        patched.setattr(producer, "send", lambda *_: _raise(error))
        assert post("k").status_code == error.status
    assert rows.count() == 0
    assert post("k").status_code == 200


def _raise(error):
    raise error


def test_an_unknown_outcome_keeps_its_event_id_whatever_comes_after(post, read, topic, rows, monkeypatch):
    with monkeypatch.context() as patched:
        patched.setattr(producer, "send", lambda *_: _raise(errors.OutcomeUnknown))
        assert post("k").status_code == 504
        event_id = rows.get().event_id
        patched.setattr(producer, "send", lambda *_: _raise(errors.NotSent))
        assert post("k").status_code == 503
    assert post("k", "message=other").status_code == 422
    assert post("k").status_code == 200
    assert ids(read(topic)) == [("tk-event-id", str(event_id).encode())]


def test_of_two_attempts_the_first_answer_stays(alias, broker, topic, rows, read):
    """The first was taken for dead; both come through."""
    name, record = Name("user 1", "POST", "/tkprod", "k"), Record(topic, b"x")
    paused = idempotency._claim(name, idempotency._fingerprint("/tkprod", record), alias)
    rows.update(locked_until=timezone.now() - timedelta(seconds=1))
    assert once(name, record, write) == (write_of(0), False)
    assert paused.remember(write_of(7)) == write_of(0)
    paused.end(sent=False)
    assert once(name, record, write) == (write_of(0), True)


def test_an_attempt_that_was_taken_for_dead_forgets_nothing(alias, broker, topic, rows):
    name, record = Name("user 1", "POST", "/tkprod", "k"), Record(topic, b"x")
    paused = idempotency._claim(name, idempotency._fingerprint("/tkprod", record), alias)
    rows.update(locked_until=timezone.now() - timedelta(seconds=1))
    second = idempotency._claim(name, idempotency._fingerprint("/tkprod", record), alias)
    assert second.event_id == paused.event_id
    paused.end(sent=False)
    assert rows.get().locked_until > timezone.now()
    with pytest.raises(errors.InFlight):
        once(name, record, write)


def test_the_window(post, read, topic, rows, settings, monkeypatch):
    monkeypatch.setattr(idempotency, "_prune_at", 0.0)
    monkeypatch.setattr(idempotency, "PRUNE_SECONDS", 0.0)
    assert post("old").status_code == post("k").status_code == 200
    rows.update(created_at=timezone.now() - timedelta(seconds=86_390))
    assert post("k").status_code == 200
    assert len(read(topic)) == 2
    rows.update(created_at=timezone.now() - timedelta(seconds=86_410))
    assert post("k", "message=new").status_code == 200  # the key is free again
    assert len(read(topic)) == 3
    assert [row.key for row in rows.all()] == ["k"]  # and what is old is gone


def test_a_database_that_is_away(empty_postgres, broker, topic, read, monkeypatch):
    gone = dj_database_url.parse("postgres://nobody@127.0.0.1:1/nothing")
    monkeypatch.setitem(connections.databases, "gone", {**connections.databases["postgres"], **gone, "OPTIONS": {}})
    with pytest.raises(errors.NotSent, match="database"):
        once(Name("user 1", "POST", "/tkprod", "k"), Record(topic, b"x"), write, "gone")
    assert read(topic) == []
    del connections["gone"]


KILLED = """
import os, signal, sys
import django
django.setup()
from django.conf import settings
from django.db import connections, transaction
import dj_database_url
alias, where, settings.KAFKA_BROKER_URL, topic = sys.argv[1:]
if alias == "default":
    connections.databases["default"]["NAME"] = where
else:
    connections.databases[alias] = {**connections.databases["default"], **dj_database_url.parse(where), "OPTIONS": {}}
from tk.idempotency import Name, once
from tk.record import Record
once(Name("user 1", "POST", "/tkprod", "k"), Record(topic, b"x"), lambda _: os.kill(os.getpid(), signal.SIGKILL), alias)
"""


def test_killed_between_acknowledgement_and_record(alias, broker, topic, read, rows):
    given = connections[alias].settings_dict
    where = (
        f"postgres://postgres@127.0.0.1:{given['PORT']}/{given['NAME']}" if alias == "postgres" else str(given["NAME"])
    )
    child = subprocess.run(
        [sys.executable, "-c", KILLED, alias, where, broker, topic],
        env={**os.environ, "DJANGO_SETTINGS_MODULE": "tutorialkafka.settings_test"},
        timeout=60,
        check=False,
    )
    assert child.returncode == -signal.SIGKILL
    assert len(read(topic)) == 1
    name, record = Name("user 1", "POST", "/tkprod", "k"), Record(topic, b"x")
    with pytest.raises(errors.InFlight):
        once(name, record, write)
    rows.update(locked_until=timezone.now() - timedelta(milliseconds=1))  # its time is over
    assert once(name, record, write) == (write_of(1), False)
    first, second = ids(read(topic))
    assert first == second == ("tk-event-id", str(rows.get().event_id).encode())


@pytest.mark.django_db(transaction=True)
def test_an_unknown_outcome_is_repeated_and_stored_once(settings, tmp_path):
    settings.DEBUG = True
    settings.TK = {"DELIVERY_TIMEOUT": 3.0, "REQUEST_TIMEOUT": 5.0, "METADATA_SECONDS": 60.0}
    settings.TKCONS = QUICK

    def post(key: str):
        return Client().post("/tkprod", f"message={key}", FORM, headers={"Idempotency-Key": key})

    with Cluster(tmp_path, port=0) as cluster:
        settings.KAFKA_BROKER_URL = cluster.bootstrap
        eventually(lambda: _if_produced(post("before")), 20)
        cluster.pause()  # what is written to its socket waits there
        assert post("k").status_code == 504
        cluster.resume()
        answer = eventually(lambda: _if_produced(post("k")), 20)
        assert answer.content == b"Produced message."
        assert post("after").status_code == 200
        with running(database("idempotent", "sample-topic")):
            eventually(lambda: "after" in values("idempotent"), 20)
            assert values("idempotent") == ["before", "k", "after"]
        end = producer.send(Record("sample-topic", b"end")).offset
        assert end == 4  # the message was there twice: the test has tested something
        producer.close(1)


def _if_produced(answer):
    assert answer.status_code in {200, 503, 504}
    return answer if answer.status_code == 200 else None
