"""The producer without a broker."""

import asyncio
import logging
import os
import signal

from tests.waiting import eventually
from tk import producer, topics
from tk.errors import OutcomeUnknown
from tk.record import Record


def test_a_callback_that_fails_leaves_the_other_records_their_answers(settings, caplog):
    settings.KAFKA_BROKER_URL = "127.0.0.1:1"
    settings.TK = {"DELIVERY_TIMEOUT": 0.3}
    loop = asyncio.new_event_loop()
    loop.close()
    outcomes: list[object] = []
    with caplog.at_level(logging.ERROR, "tk.producer"):
        made = producer.current()
        made.send(Record("t", b"a"), lambda outcome: loop.call_soon_threadsafe(outcomes.append, outcome) and None)
        eventually(lambda: "Event loop is closed" in caplog.text, 10)
        made.send(Record("t", b"b"), outcomes.append)
        eventually(lambda: len(outcomes) == 1, 10)
    assert isinstance(outcomes[0], OutcomeUnknown)


def test_a_child_forked_while_a_thread_asks_is_not_stuck():
    with topics.metadata._lock:
        child = os.fork()
        if child == 0:
            signal.alarm(5)
            with topics.metadata._lock:
                os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
