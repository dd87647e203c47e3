"""Clients that go away, dawdle, flood, and never read."""

import threading
import time
from contextlib import ExitStack

from tests.faults.soak.system import System
from tests.faults.test_requests import bodies, deaf_viewer, leavers

VIEWERS = 200


def clients_go_away(system: System) -> None:
    ending = threading.Event()
    web = system.draw.choice(system.webs)
    leaving = threading.Thread(target=leavers, args=(system.stand, web, system.stand.unique(), ending))
    leaving.start()
    time.sleep(system.draw.uniform(1, 5))
    ending.set()
    leaving.join(30)


def viewers_never_read(system: System) -> None:
    web = system.draw.choice(system.asgi)
    with ExitStack() as viewers:
        for number in range(VIEWERS):
            viewers.enter_context(deaf_viewer(system.stand, web, number))
        time.sleep(system.draw.uniform(2, 8))


def bodies_are_slow_and_huge(system: System) -> None:
    bodies(system.stand, system.draw.choice(system.asgi), rounds=1, slow=50)


FAULTS = [clients_go_away, viewers_never_read, bodies_are_slow_and_huge]
