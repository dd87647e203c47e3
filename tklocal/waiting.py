"""Waiting for the end of a foreground command."""

import signal
import threading


class Ending:
    """Set by SIGTERM, by Ctrl-C and when the terminal is closed. A second signal ends the process at once."""

    def __init__(self) -> None:
        self._event = threading.Event()
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, self._on_signal)

    def wait(self, seconds: float) -> bool:
        """Wait so long; True once the end was asked for."""
        return self._event.wait(seconds)

    def check(self) -> None:
        """Raise SystemExit(0) once the end was asked for: for work that can be left at any point."""
        if self._event.is_set():
            raise SystemExit(0)

    @property
    def asked(self) -> bool:
        return self._event.is_set()

    def _on_signal(self, number: int, frame: object) -> None:
        if self._event.is_set():
            raise SystemExit(128 + number)
        self._event.set()
