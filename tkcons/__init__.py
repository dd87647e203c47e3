"""Consume from Apache Kafka in Django: sinks by settings, ``from tkcons import handler`` for code."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tkcons.errors import Reject
    from tkcons.handlers import handler
    from tkcons.received import Received

__all__ = ["Received", "Reject", "handler"]

_MODULES = {"Received": "received", "Reject": "errors", "handler": "handlers"}


def __getattr__(name: str) -> Any:
    # Late: the app registry imports this package before Django is ready.
    from importlib import import_module

    if name in _MODULES:
        return getattr(import_module(f"tkcons.{_MODULES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
