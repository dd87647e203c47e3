"""Ctrl-C for us alone: `make` would end by the signal itself, and its exit code would say so."""

import contextlib
import os
import select
import signal
import sys
import threading
from collections.abc import Iterator


@contextlib.contextmanager
def foreground() -> Iterator[None]:
    """Make this process the terminal's foreground group while the block runs, as a shell does with its jobs.

    Does nothing without a terminal, or unless `make` started us.
    """
    if "MAKELEVEL" not in os.environ or not sys.stdin.isatty():
        yield
        return
    terminal, before = sys.stdin.fileno(), os.tcgetpgrp(sys.stdin.fileno())
    signal.signal(signal.SIGTTOU, signal.SIG_IGN)  # sent to who hands the terminal over from the background
    os.setpgid(0, 0)
    os.tcsetpgrp(terminal, os.getpgrp())
    threading.Thread(target=_hang_up, args=[terminal], name="terminal", daemon=True).start()
    try:
        yield
    finally:
        with contextlib.suppress(OSError):  # the terminal was closed
            os.tcsetpgrp(terminal, before)


def _hang_up(terminal: int) -> None:
    """SIGHUP to this process when the terminal is closed: the kernel sends it to the session's leader alone, and where that
    is `make`, it waits for us."""
    closing = select.poll()
    closing.register(terminal, 0)
    if any(event & select.POLLHUP for _, event in closing.poll()):
        os.kill(os.getpid(), signal.SIGHUP)
