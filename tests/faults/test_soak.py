"""Everything at once for half an hour: a fault every 20 s, drawn from all of them.

SOAK_SECONDS: how long (default 1,800), and at least until each has been drawn. SOAK_FAULTS: names of some (default all).
FAULTS_SEED: repeats a run's faults and loads.
"""

import os
import time

import pytest

from tests.faults.clock import needs_clock
from tests.faults.soak.deck import FAULTS, Deck
from tests.faults.soak.system import STORES, System
from tests.faults.stand import LONG, Stand

SECONDS = float(os.environ.get("SOAK_SECONDS", "1800"))
EVERY = 20.0
NAMES = os.environ.get("SOAK_FAULTS", "").split()

pytestmark = [pytest.mark.faults, pytest.mark.long, pytest.mark.timeout(SECONDS * 2 + 1_200)]


@needs_clock
@pytest.mark.skipif(not LONG, reason="make faults")
def test_everything_for_half_an_hour(stand: Stand):
    deck = Deck([fault for fault in FAULTS if not NAMES or fault.__name__ in NAMES], stand.draw)
    system = System(stand)
    done: list[str] = []
    with (
        system.keyed,
        stand.clients(*system.webs, clients=3, poison=20, pause=0.15),
        stand.clients(*system.webs, path="/publish", clients=3, pause=0.15),
        stand.clients(*system.webs, topic=system.second_topic, clients=2, pause=0.3),
    ):
        stand.wait_stored(50)
        ends = time.monotonic() + SECONDS
        while time.monotonic() < ends or not deck.gone:
            began = time.monotonic()
            fault = deck.take()
            done.append(fault.__name__)
            try:
                with stand.fault(fault.__name__):
                    fault(system)
                    system.tend()
                stand.wait_stored(20)
            except Exception as error:  # noqa: BLE001  the run goes on: what the checker says of it is worth more
                stand.broke(fault.__name__, repr(error))
                stand.steps.disarm()
                stand.servers.heal()
                system.tend()
            time.sleep(max(0.0, began + EVERY - time.monotonic()))
        stand.wait_stored(100)
    stand.verdict(*STORES, seconds=180)
    stand.verdict(*STORES, topic=system.second_topic, seconds=180)
    stand.verdict("handler", "letters", "letters sent", poison=True, seconds=180)
    stand.said.append(f"{len(done)} faults in {SECONDS:g} s: {', '.join(sorted(set(done)))}")
