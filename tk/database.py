"""A thread's database connections, from one batch to the next; commits that need not wait for the disk."""

from collections.abc import Iterator
from contextlib import contextmanager

from django.db import connections

FULL = 2  # PRAGMA synchronous: each commit waits for the disk; 1, NORMAL: checkpoints do
# A condition for a statement on PostgreSQL, always true: the transaction's commit does not wait for the disk. In the
# statement itself, it needs no round trip and no transaction around it.
UNSYNCED = "(SELECT set_config('synchronous_commit', 'off', true)) = 'off'"


def keep_connections() -> None:
    """Close this thread's connections that are broken, or older than a CONN_MAX_AGE above 0. Outside transactions.

    Django's `close_old_connections` is for the end of a request: with CONN_MAX_AGE at 0, the default, it closes all of them,
    and a thread that stores one batch after the other would connect for each.
    """
    for connection in connections.all(initialized_only=True):
        if not connection.settings_dict["CONN_MAX_AGE"]:
            connection.close_at = None
        connection.close_if_unusable_or_obsolete()


@contextmanager
def unsynced(using: str) -> Iterator[None]:
    """Commits in here outlive this process, but perhaps not a power cut: SQLite does not wait for the disk with them.

    In WAL mode alone, where the next commit that waits brings them there too, and a power cut takes the last ones and harms
    nothing else. Inside a transaction, and on other databases, nothing changes.
    """
    connection = connections[using]
    if connection.vendor != "sqlite" or connection.in_atomic_block:
        yield
        return
    with connection.cursor() as cursor:
        cursor.execute("SELECT * FROM pragma_synchronous, pragma_journal_mode")
        level, journal = cursor.fetchone()
        if level < FULL or journal != "wal":
            yield
            return
        cursor.execute("PRAGMA synchronous = NORMAL")
        try:
            yield
        finally:
            cursor.execute(f"PRAGMA synchronous = {level}")
