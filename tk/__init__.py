"""Produce to Apache Kafka from Django: ``from tk import produce, publish``."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tk.api import aproduce, produce, produce_many
    from tk.outbox import publish, publish_many
    from tk.record import Receipt, Record

__all__ = ["Receipt", "Record", "aproduce", "produce", "produce_many", "publish", "publish_many"]


def __getattr__(name: str) -> Any:
    # Late: the app registry imports this package before Django is ready.
    if name in {"produce", "produce_many", "aproduce"}:
        from tk import api

        return getattr(api, name)
    if name in {"publish", "publish_many"}:
        from tk import outbox

        return getattr(outbox, name)
    if name in {"Receipt", "Record"}:
        from tk import record

        return getattr(record, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
