"""Prometheus' figures of tk, where prometheus-client is installed (the extra `metrics`)."""

from typing import Any

from tk import producer

_requests: Any = None
_seconds: Any = None
try:
    from prometheus_client import Counter, Gauge, Histogram
except ImportError:  # figures are an extra
    pass
else:
    # The labels are codes of this app: a stranger's request makes no new one.
    _requests = Counter("tk_produce_requests", "Requests to /tkprod by outcome", ["code"])
    _seconds = Histogram(
        "tk_produce_seconds",
        "Seconds from a request's arrival to the acknowledgement",
        buckets=(0.001, 0.0025, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10),
    )
    Gauge(
        "tk_producer_unacknowledged", "Records that this process has sent and that are not confirmed yet"
    ).set_function(producer.unacknowledged)

_children: dict[str, Any] = {}


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
