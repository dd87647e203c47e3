"""The news that something was stored: at once to readers in this process, by PostgreSQL's NOTIFY to those in others."""

import threading

from django.db import connections, transaction

CHANNEL = "tkcons_stored"

_listeners: set[threading.Event] = set()


def announce(using: str) -> None:
    """Tell it when the open transaction commits: once a transaction, however often it is called."""
    connection = connections[using]
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute(f"NOTIFY {CHANNEL}")
    transaction.on_commit(_tell, using=using)


def listen(event: threading.Event) -> None:
    """Have the event set whenever this process has stored something, until `forget`."""
    _listeners.add(event)


def forget(event: threading.Event) -> None:
    _listeners.discard(event)


def _tell() -> None:
    for event in tuple(_listeners):
        event.set()
