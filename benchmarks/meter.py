"""What a consuming process, raw or the product's, tells of itself."""

import json
import resource
import time


class Meter:
    """The rate from the end of the first batch to the end of the last: connecting and joining a group are not in it."""

    def __init__(self, wanted: int) -> None:
        self.wanted = wanted
        self.count = self.first = 0
        self.began = 0.0

    def add(self, count: int) -> bool:
        """Whether that is all; then the figures have been told."""
        now = time.perf_counter()
        if not self.count:
            self.began, self.first = now, count
        self.count += count
        if self.count < self.wanted:
            return False
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(json.dumps({"records/s": (self.count - self.first) / (now - self.began), "peak MB": peak}), flush=True)
        return True
