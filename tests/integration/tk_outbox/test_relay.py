"""What a relay does with what waits: sent, marked, kept or deleted; woken, and stopped."""

import os
import signal
import subprocess
import sys
import time

import pytest

import tk
from tests.integration.tk_outbox.outbox import State, running, states, values
from tests.waiting import eventually
from tk.models import OutboxEvent
from tk.outbox import publish, publish_many
from tk.relay import Relay
from tklocal.kafka import Cluster

pytestmark = [pytest.mark.kafka, pytest.mark.postgres]


def test_sent_events_are_deleted_where_they_are_not_kept(alias, relay, topic, read, settings):
    settings.TK = {"OUTBOX_KEEP_SECONDS": 0}
    publish(topic, "x", using=alias)
    relay()
    assert (states(alias), len(read(topic))) == ([], 1)


def test_old_sent_events_are_pruned(alias, relay, topic, settings):
    settings.TK = {"OUTBOX_KEEP_SECONDS": 0.2}
    publish(topic, "x", using=alias)
    relay()
    assert states(alias) == [State.SENT]
    time.sleep(0.3)
    publish("no-such-topic", "kept: it was not sent", using=alias)
    Relay(alias).step()
    assert states(alias) == [State.PENDING]


def test_the_next_events_are_read_before_the_last_are_acknowledged(alias, broker, topic, read, monkeypatch):
    monkeypatch.setattr("tk.relay.BATCH", 5)
    monkeypatch.setattr("tk.relay.IN_FLIGHT", 10)
    publish_many([tk.Record(topic, b"%d" % n, b"%d" % n) for n in range(23)], using=alias)
    made = Relay(alias)
    made.step()
    assert len(made._sender.in_flight) == 5
    made.run(once=True)
    assert values(read(topic)) == [str(n) for n in range(23)]
    rows = OutboxEvent.objects.using(alias).order_by("pk").values_list("state", "sent_offset")
    assert list(rows) == [(State.SENT, n) for n in range(23)]


def test_events_linger_where_much_waits_and_go_at_once_where_little_does(alias, broker, topic, read, monkeypatch):
    monkeypatch.setattr("tk.relay.BATCH", 5)
    monkeypatch.setattr("tk.sender.LINGER_MS", 600_000)  # nothing goes but by a flush
    monkeypatch.setattr("tk.sender.STALL_SECONDS", 1.0)  # a new producer takes half of it
    publish_many([tk.Record(topic, b"%d" % n, b"%d" % n) for n in range(12)], using=alias)
    made = Relay(alias)
    made.step()
    made.step()
    assert len(made._sender.in_flight) == 10
    assert read(topic) == []
    eventually(lambda: (made.step(), set(states(alias)) == {State.SENT})[1], 10)
    made.run(once=True)
    assert values(read(topic)) == [str(n) for n in range(12)]


def test_a_broker_that_is_down_and_comes_back(alias, settings, tmp_path, make_topic):
    settings.TK = {"OUTBOX_POLL_SECONDS": 0.02}
    with Cluster(tmp_path, port=0) as cluster:
        settings.KAFKA_BROKER_URL = cluster.bootstrap
        made, thread = running(alias)
        publish("sample-topic", "0", key="k", using=alias)
        eventually(lambda: states(alias) == [State.SENT], 20)
        cluster.kill()
        for number in range(1, 40):
            publish("sample-topic", str(number), key="k", using=alias)
            time.sleep(0.1)
        assert State.PENDING in states(alias)
        assert thread.is_alive()
        cluster.restart()
        cluster.wait()
        eventually(lambda: set(states(alias)) == {State.SENT}, 40)
        rows = OutboxEvent.objects.using(alias).order_by("pk").values_list("sent_offset", flat=True)
        assert list(rows) == sorted(rows)
        assert len(rows) == 40
        made.stop()
        thread.join(10)


def test_notify_wakes_the_relay(broker, topic, empty_postgres, settings):
    settings.TK = {"OUTBOX_POLL_SECONDS": 5.0}
    made, thread = running("postgres")
    publish(topic, "first", using="postgres")
    events = OutboxEvent.objects.using("postgres")
    eventually(lambda: not events.filter(state=State.PENDING).exists(), 20)
    time.sleep(0.5)  # it waits now
    began = time.monotonic()
    publish(topic, "second", using="postgres")
    eventually(lambda: not events.filter(state=State.PENDING).exists(), 20)
    assert time.monotonic() - began < 1
    made.stop()
    thread.join(10)


def test_the_command_ends_at_sigterm(broker, topic, transactional_db):
    child = subprocess.Popen(
        [sys.executable, "manage.py", "relay"],
        env={**os.environ, "DJANGO_SETTINGS_MODULE": "tutorialkafka.settings_test", "KAFKA_BROKER_URL": broker},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    assert b"Relaying" in child.stdout.readline()
    child.send_signal(signal.SIGTERM)
    said, _ = child.communicate(timeout=15)
    assert (child.returncode, b"Traceback" in said) == (0, False)
