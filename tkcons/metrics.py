"""Prometheus' figures of tkcons in this process, where prometheus-client is installed (the extra `metrics`)."""

import threading
from collections.abc import Callable, Iterator
from typing import Any

Partitions = Callable[[], list[dict[str, Any]]]

LABELLED = 1_000  # partitions of a process that are told apart; the lag of further ones is one figure a topic

_records: Any = None
_seconds: Any = None
_failures: Any = None
_letters: Any = None
_held: dict[str, Partitions] = {}
_lock = threading.Lock()


def watch(group: str, partitions: Partitions) -> None:
    """Tell the lag of what the group holds in this process, as `Session.partitions` gives it, until `forget`."""
    with _lock:
        _held[group] = partitions


def forget(group: str) -> None:
    with _lock:
        _held.pop(group, None)


def stored(group: str, records: int, seconds: float) -> None:
    """Count a write of the sink that stored so many records in so many seconds."""
    if _records is not None:
        _records.labels(group).inc(records)
        _seconds.labels(group).observe(seconds)


def failed(group: str) -> None:
    """Count a write that stored nothing: refused, or to be tried again."""
    if _failures is not None:
        _failures.labels(group).inc()


def dead_letter(group: str) -> None:
    if _letters is not None:
        _letters.labels(group).inc()


def lags() -> dict[tuple[str, str, str], int]:
    """Lag by group, topic and partition (``other``: all beyond LABELLED) of what this process holds."""
    with _lock:
        held = list(_held.items())
    found: dict[tuple[str, str, str], int] = {}
    for group, partitions in held:
        for row in partitions():
            if row["lag"] is not None:
                partition = str(row["partition"]) if len(found) < LABELLED else "other"
                key = (group, row["topic"], partition)
                found[key] = found.get(key, 0) + row["lag"]
    return found


try:
    from prometheus_client import REGISTRY, Counter, Histogram
    from prometheus_client.core import GaugeMetricFamily
    from prometheus_client.registry import Collector
except ImportError:  # figures are an extra
    pass
else:
    # The labels are groups and topics of the settings, and numbers of partitions: strangers make no new ones.
    _records = Counter("tkcons_records", "Records stored or handled", ["group"])
    _seconds = Histogram(
        "tkcons_write_seconds",
        "Seconds of one write: a batch of each partition in one transaction",
        ["group"],
        buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30),
    )
    _failures = Counter("tkcons_failed_writes", "Writes that stored nothing", ["group"])
    _letters = Counter("tkcons_dead_letters", "Messages that became dead letters", ["group"])

    class _Lag(Collector):
        """Looked at when it is asked for: a partition that has moved on is not told any more."""

        def describe(self) -> Iterator[Any]:
            return iter(())

        def collect(self) -> Iterator[Any]:
            family = GaugeMetricFamily(
                "tkcons_lag", "Records in Kafka that are not stored yet", labels=["group", "topic", "partition"]
            )
            for labels, lag in lags().items():
                family.add_metric(labels, lag)
            yield family

    REGISTRY.register(_Lag())
