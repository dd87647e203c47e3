"""The wall clock of web servers, relays and consumers is put forward and back by an hour; the servers' own is right."""

import time

import pytest

from tests.faults.clock import Clock, needs_clock
from tests.faults.stand import Stand, eventually, protected_by

pytestmark = [pytest.mark.faults, pytest.mark.timeout(400)]

RETURN_SECONDS = 30.0  # until what stood still is replaced


@needs_clock
@pytest.mark.long
@protected_by("clock", "standstill")
def test_clocks_jump_by_an_hour(stand: Stand):
    """Under load, where messages wake whoever waits too long; and while nobody sends."""
    clock = Clock(stand.folder)
    stand.make_topic()
    stand.make_topic(1, f"{stand.topic}.dead")
    web = stand.web(**clock.environment)
    stand.relay(**clock.environment)
    consumers = [
        stand.consume(*groups, processes=2, **clock.environment) for groups in (("database", "file"), ("handler",))
    ]
    with stand.clients(web, poison=20), stand.clients(web, path="/publish", clients=2, pause=0.2):
        stand.wait_stored(50)
        for hours in (1, 0, -1, 1):
            with stand.fault(f"clock {hours:+} h"):
                clock.put(hours)
                time.sleep(2)
            stand.wait_stored(50)
    stand.verdict("database", "file")
    stand.verdict("handler", "letters", poison=True)
    with stand.fault("clock put back while nobody sends"):
        clock.put(0)
        time.sleep(6)  # longer than a session lasts without heartbeats
    for group in ("database", "handler"):
        try:
            eventually(lambda group=group: stand.members(group) == 2, RETURN_SECONDS)
        except AssertionError:
            stand.broke("standstill", f"{group} has {stand.members(group)} members, and had 2")
    with stand.clients(web, clients=2) as load:
        eventually(lambda: load.confirmed > 20)
    stand.verdict("database", "file")
    codes = [stand.end(child) for child in consumers]
    if any(codes):
        stand.broke("exit codes", str(codes))
