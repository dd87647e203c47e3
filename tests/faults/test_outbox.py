"""Relays that die and hang between the brokers' acknowledgement and their own mark."""

import os
import signal

import pytest

from tests.faults.stand import Stand, protected_by

pytestmark = [pytest.mark.faults, pytest.mark.timeout(400)]


@protected_by("event_ids", "duplicates")
def test_a_relay_dies_between_acknowledgement_and_mark(stand: Stand):
    stand.make_topic()
    web = stand.web()
    stand.consume("database", "file")
    stand.relay()
    with stand.clients(web, path="/publish"):
        stand.wait_stored(50)
        for step in ("relay.acknowledged", "relay.marked", "relay.acknowledged"):
            with stand.fault(step):
                stand.kill_at(step)
                stand.relay()
            stand.wait_stored(50)
    stand.verdict("database", "file")


@pytest.mark.long
@protected_by("event_ids", "duplicates")
def test_a_relay_wakes_after_its_shards_moved(stand: Stand):
    stand.make_topic()
    web = stand.web()
    stand.consume("database", "file", "handler")
    for _ in range(2):
        stand.relay()
    with stand.clients(web, path="/publish", clients=8):
        stand.wait_stored(50)
        for _ in range(2):
            with stand.fault("zombie"):
                pid = stand.kill_at("relay.acknowledged", action="stop")
                stand.wait_stored(200)  # after the leases have ended
                os.kill(pid, signal.SIGCONT)
            stand.wait_stored(200)
    stand.verdict("database", "file", "handler")
