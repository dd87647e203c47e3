"""Prometheus' figures of tk, where prometheus-client is installed (the extra `metrics`)."""

import math
import threading
import time
from collections.abc import Iterator, Mapping
from typing import Any

from django.db import DatabaseError

from tk import producer

OUTBOX_SECONDS = 1.0  # how long a look at the outbox is believed

_requests: Any = None
_seconds: Any = None
_records: Any = None
try:
    from prometheus_client import REGISTRY, Counter, Gauge, Histogram
    from prometheus_client.core import GaugeMetricFamily
    from prometheus_client.registry import Collector
except ImportError:  # figures are an extra
    pass
else:
    # The labels are codes of this app: a stranger's request makes no new one.
    _requests = Counter("tk_produce_requests", "Requests to /tkprod by outcome", ["code"])
    _records = Counter("tk_produce_batch_records", "Records of batches to /tkprod by outcome", ["code"])
    _seconds = Histogram(
        "tk_produce_seconds",
        "Seconds from a request's arrival to the acknowledgement",
        buckets=(0.001, 0.0025, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10),
    )
    Gauge(
        "tk_producer_unacknowledged", "Records that this process has sent and that are not confirmed yet"
    ).set_function(producer.unacknowledged)

    class _Outbox(Collector):
        """Looked at when it is asked for, by indexes; NaN while the database is away."""

        def __init__(self) -> None:
            self._lock = threading.Lock()
            self._seen = (-math.inf, (math.nan,) * 3)

        def describe(self) -> Iterator[Any]:
            return iter(())

        def collect(self) -> Iterator[Any]:
            with self._lock:
                if time.monotonic() - self._seen[0] > OUTBOX_SECONDS:
                    self._seen = (time.monotonic(), _look())
                waiting, oldest, failed = self._seen[1]
            yield GaugeMetricFamily("tk_outbox_waiting", "Events that no relay has sent yet, up to 100,000", waiting)
            yield GaugeMetricFamily("tk_outbox_oldest_seconds", "Age of the oldest event that waits", oldest)
            yield GaugeMetricFamily("tk_outbox_failed", "Failed events, each of which holds its key", failed)

    REGISTRY.register(_Outbox())

_children: dict[str, Any] = {}


def observe_records(count: int, codes: Mapping[str, int]) -> None:
    """Count a batch's records; codes: how many failed, by error."""
    if _records is None:
        return
    _records.labels("produced").inc(count - sum(codes.values()))
    for code, failed in codes.items():
        _records.labels(code).inc(failed)


def observe(code: str, seconds: float) -> None:
    """Count a request: `produced`, or the error's code."""
    if _requests is None:
        return
    child = _children.get(code)
    if child is None:
        child = _children[code] = _requests.labels(code)
    child.inc()
    if code == "produced":
        _seconds.observe(seconds)


def _look() -> tuple[float, float, float]:
    from tk import upkeep

    try:
        status = upkeep.status()
    except DatabaseError:
        return (math.nan,) * 3
    return status.waiting, status.oldest_seconds or 0.0, status.failed
