"""Databases and disks that fail."""

import time

from tests.faults.soak.system import System
from tests.faults.test_stores import locked


def connections_are_cut(system: System) -> None:
    system.stand.cut_connections()


def postgresql_dies(system: System) -> None:
    system.stand.servers.postgres.kill()
    system.stand.servers.postgres.start()


def postgresql_is_stopped(system: System) -> None:
    system.stand.servers.postgres.stop()
    time.sleep(system.draw.uniform(0, 10))
    system.stand.servers.postgres.start()


def the_database_is_restored(system: System) -> None:
    """From an older backup: all that it knows goes back together, and what came since is read again.

    What the outbox had is sent by both moments, for an event that a backup does not have is lost with its database; and no
    key's request is under way, for a key that is forgotten sends again.
    """
    name, backup, sql = system.stand.name, f"{system.stand.name}_backup", system.stand.servers.sql
    with system.down():
        sql(f"CREATE DATABASE {backup} TEMPLATE {name}")
    system.stand.wait_stored(200)
    with system.keyed.held(), system.down():
        sql(f"DROP DATABASE {name} WITH (FORCE)")
        sql(f"ALTER DATABASE {backup} RENAME TO {name}")


def sqlite_is_locked(system: System) -> None:
    """Longer than the product waits for it: the second database, or what a file sink has recorded."""
    path, seconds = system.draw.choice(
        [
            (system.stand.second, 6),
            (system.stand.files / "messages.jsonl.positions", 12),
            (system.stand.files / "consumed_messages.txt.positions", 12),
        ]
    )
    with locked(path):
        time.sleep(seconds)


def a_file_cannot_be_written(system: System) -> None:
    step, action = system.draw.choice([("file.write", "full"), ("file.write", "short"), ("file.appended", "fail")])
    system.stand.kill_at(step, action=action)


FAULTS = [
    connections_are_cut,
    postgresql_dies,
    postgresql_is_stopped,
    the_database_is_restored,
    sqlite_is_locked,
    a_file_cannot_be_written,
]
