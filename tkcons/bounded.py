"""A query that is stopped when it takes too long."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from django.db import OperationalError, connections, transaction

STEPS = 50_000  # of SQLite's virtual machine between two looks at the clock: about a millisecond


class TookTooLong(Exception):
    """The database was told to stop."""


@contextmanager
def within(seconds: float, using: str) -> Iterator[None]:
    """Queries in here end within this time, or TookTooLong is raised. Other databases take their time."""
    connection = connections[using]
    deadline = time.monotonic() + seconds
    if connection.vendor == "postgresql":
        try:
            with transaction.atomic(using=using), connection.cursor() as cursor:
                cursor.execute(f"SET LOCAL statement_timeout = {max(1, int(seconds * 1_000))}")
                yield
        except OperationalError as error:
            if getattr(error.__cause__, "sqlstate", "") == "57014":  # query_canceled
                raise TookTooLong from error
            raise
        return
    connection.ensure_connection()
    raw = connection.connection
    raw.set_progress_handler(lambda: time.monotonic() > deadline, STEPS)
    try:
        yield
    except OperationalError as error:
        if time.monotonic() > deadline and "interrupted" in str(error):
            raise TookTooLong from error
        raise
    finally:
        raw.set_progress_handler(None, 0)
