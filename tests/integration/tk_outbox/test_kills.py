"""A relay is killed after each of its steps: what committed is sent, and what is repeated has the same event id."""

import os
import signal
import subprocess
import sys

import pytest
from django.db import connections

import tk
from tests.integration.tk_outbox.outbox import State, states
from tk.models import OutboxRelay, OutboxShard
from tk.outbox import publish_many
from tk.relay import Relay

pytestmark = [pytest.mark.kafka, pytest.mark.postgres]

KILLED = """
import os, signal, sys, time
import django
django.setup()
from django.db import connections
import dj_database_url
from confluent_kafka import Consumer, TopicPartition
alias, where, broker, topic, step, batch = sys.argv[1:]
if alias != "default":
    given = dj_database_url.parse(where)
    connections.databases[alias] = {**connections.databases["default"], **given, "OPTIONS": {}}
else:
    connections.databases["default"]["NAME"] = where
from django.conf import settings
settings.KAFKA_BROKER_URL = broker
from tk import relay
from tk.sender import Sender
from tk.store import Store

def die():
    os.kill(os.getpid(), signal.SIGKILL)

def die_when_it_is_there():
    consumer = Consumer({"bootstrap.servers": broker, "group.id": "unused"})
    while not consumer.get_watermark_offsets(TopicPartition(topic, 0), timeout=10)[1]:
        time.sleep(0.02)  # nobody takes the acknowledgements
    time.sleep(0.2)
    die()

mark = Store.mark
relay.BATCH = int(batch)
if step == "read":
    relay.Relay._send = lambda *_: die()
elif step == "sent":
    Sender.wait = lambda sender, *_: die_when_it_is_there()
elif step == "acknowledged":
    Store.mark = lambda *_: (time.sleep(0.3), die())  # what else is on its way has arrived
else:
    Store.mark = lambda *arguments: (mark(*arguments), time.sleep(0.3), die())
relay.Relay(alias).run()
"""


SQLITE = pytest.param("default", "acknowledged", 5_000, marks=pytest.mark.django_db(transaction=True))


@pytest.mark.parametrize(
    ("alias", "step", "batch"),
    [
        SQLITE,
        *[("postgres", step, 5_000) for step in ("read", "sent", "acknowledged", "marked")],
        *[("postgres", step, 10) for step in ("acknowledged", "marked")],  # on the other thread, while more is sent
    ],
    indirect=["alias"],
)
def test_killed_at_any_point_it_sends_all_that_committed(alias, broker, topic, read, step, batch):
    """kill -9 after that step; what is repeated has the same event id."""
    records = [tk.Record(topic, b"x", b"%d" % n) for n in range(50)]
    event_ids = [str(event_id) for event_id in publish_many(records, using=alias)]
    given = connections[alias].settings_dict
    where = (
        f"postgres://postgres@127.0.0.1:{given['PORT']}/{given['NAME']}" if alias == "postgres" else str(given["NAME"])
    )
    child = subprocess.run(
        [sys.executable, "-c", KILLED, alias, where, broker, topic, step, str(batch)],
        env={**os.environ, "DJANGO_SETTINGS_MODULE": "tutorialkafka.settings_test"},
        timeout=60,
        check=False,
    )
    assert child.returncode == -signal.SIGKILL
    before, marked = ids(read(topic)), states(alias).count(State.SENT)
    assert before == event_ids[: len(before)]
    assert len(before) >= marked
    assert (len(before) > 0, marked > 0) == (step != "read", step == "marked")
    OutboxShard.objects.using(alias).update(leased_until=None)  # the dead relay's time is over
    OutboxRelay.objects.using(alias).all().delete()
    Relay(alias).run(once=True)
    assert set(states(alias)) == {State.SENT}
    assert ids(read(topic)) == before + event_ids[marked:]


def ids(messages):
    return [message.headers()[0][1].decode() for message in messages]
