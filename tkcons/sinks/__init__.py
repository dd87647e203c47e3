"""Sinks: where a group's messages are stored. The names in TKCONS["SINKS"] lead here by dotted path."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tkcons.sinks.base import Sink
    from tkcons.sinks.database import DatabaseSink
    from tkcons.sinks.file import FileSink, JsonLinesSink, TextFileSink

__all__ = ["DatabaseSink", "FileSink", "JsonLinesSink", "Sink", "TextFileSink"]

_MODULES = {
    "DatabaseSink": "database",
    "FileSink": "file",
    "JsonLinesSink": "file",
    "Sink": "base",
    "TextFileSink": "file",
}


def __getattr__(name: str) -> Any:
    # Late: the database sink imports models, which must wait for the app registry.
    from importlib import import_module

    if name in _MODULES:
        return getattr(import_module(f"tkcons.sinks.{_MODULES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
