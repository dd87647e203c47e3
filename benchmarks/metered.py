"""The product's sinks with a meter: after so many messages the process tells its figures and ends itself.

Named as sinks in the settings of a `manage.py consume` that a benchmark starts; `count` is the option they add.
"""

import os
import signal
from collections.abc import Sequence
from typing import Any

from benchmarks.meter import Meter
from tkcons.handlers import handler, registry
from tkcons.sinks import DatabaseSink, JsonLinesSink, TextFileSink
from tkcons.sinks.base import Batch, Sink
from tkcons.sinks.handler import HandlerSink


class Metered(Sink):
    def __init__(self, group: str, *, count: int, **options: Any) -> None:
        super().__init__(group, **options)
        self._meter = Meter(count)

    def write(self, batches: Sequence[Batch]) -> Any:
        end = super().write(batches)  # type: ignore[safe-super]
        came = sum((batch.end if end is None else end) - batch.claim.next_offset for batch in batches)
        if self._meter.add(came):
            os.kill(os.getpid(), signal.SIGTERM)
        return end


class Database(Metered, DatabaseSink):
    pass


class TextFile(Metered, TextFileSink):
    pass


class JsonLines(Metered, JsonLinesSink):
    pass


class Counted(Metered, HandlerSink):
    """A handler that does nothing, in batches or singly."""

    def __init__(self, group: str, *, batch: int | None, **options: Any) -> None:
        handler("any", group=group, batch=batch)(_nothing)
        super().__init__(group, handler=registry.pop(group), **options)


def _nothing(what: Any) -> None:
    pass
