"""Waiting for what happens elsewhere: until it is so, or the time is over."""

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def eventually(look: Callable[[], T], seconds: float = 20.0, pause: float = 0.02) -> T:
    """Look until the answer is true, and give it; fail with the last answer when the time is over. pause: in seconds."""
    deadline = time.monotonic() + seconds
    while not (answer := look()):
        assert time.monotonic() < deadline, f"not within {seconds} s; last seen: {answer!r}"
        time.sleep(pause)
    return answer
