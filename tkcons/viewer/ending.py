"""A server that stops waits for its answers to end, and a stream never does by itself: it is ended at the signal.

No server tells its applications of a stop before it waits; so their handlers of SIGTERM and SIGINT are called after ours.
"""

import os
import signal
import threading
from types import FrameType

from tkcons.viewer import hub

_before: dict[int, object] = {}


def watch() -> None:
    """Put our handler before the server's; in the main thread alone, where Python allows it. Called again, it looks again:
    some servers set theirs when the application is loaded already."""
    if threading.current_thread() is not threading.main_thread():
        return
    for number in (signal.SIGTERM, signal.SIGINT):
        handler = signal.getsignal(number)
        if handler is not _end and handler is not None:
            _before[number] = handler
            signal.signal(number, _end)


def _end(number: int, frame: FrameType | None) -> None:
    # On a thread: a lock that this one holds at this moment would never be let go.
    threading.Thread(target=hub.close, name="tkcons-ending", daemon=True).start()
    before = _before.get(number, signal.SIG_DFL)
    if callable(before):
        before(number, frame)
    elif before == signal.SIG_DFL:
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)
