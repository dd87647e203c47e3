"""Handlers that hang or end their process, that are slow or stopped, and databases that go away."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from typing import Any

import pytest
from django.db import OperationalError, connection

from tests.integration.consuming import QUICK, held, running
from tests.integration.handling import letters, note, noted, text
from tests.waiting import eventually
from tkcons import handler
from tkcons.groups import spec
from tkcons.models import Position

pytestmark = [
    pytest.mark.kafka,
    pytest.mark.django_db(transaction=True),
    pytest.mark.usefixtures("handlers_of_the_test"),
]


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
