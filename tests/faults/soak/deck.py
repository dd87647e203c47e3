"""The faults to draw: all of them in some order, then all again."""

import random
from collections.abc import Callable

from tests.faults.soak import brokers, clients, processes, stores, topics
from tests.faults.soak.system import System

Fault = Callable[[System], None]
FAULTS: list[Fault] = [*brokers.FAULTS, *topics.FAULTS, *processes.FAULTS, *clients.FAULTS, *stores.FAULTS]


class Deck:
    def __init__(self, faults: list[Fault], draw: random.Random) -> None:
        self.faults = faults
        self._draw = draw
        self._left = draw.sample(faults, len(faults))
        self.gone = False  # whether each has been drawn

    def take(self) -> Fault:
        fault = self._left.pop()
        if not self._left:
            self.gone = True
            self._left = self._draw.sample(self.faults, len(self.faults))
        return fault
