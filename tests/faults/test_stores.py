"""Databases and disks that fail, and messages that cannot be handled."""

import contextlib
import errno
import os
import sqlite3
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.stand import LONG, Stand, protected_by

pytestmark = [pytest.mark.faults, pytest.mark.timeout(400)]


@protected_by("trying_again", "missing")
def test_postgresql_is_cut_killed_and_stopped(stand: Stand):
    stand.make_topic()
    web = stand.web()
    stand.consume("database", "handler", processes=2)
    with stand.clients(web):
        stand.wait_stored(50)
        with stand.fault("connections cut"):
            for _ in range(5):
                stand.cut_connections()
                time.sleep(0.3)
        stand.wait_stored(50)
        with stand.fault("killed"):
            stand.servers.postgres.kill()
            stand.servers.postgres.start()
        stand.wait_stored(50)
        with stand.fault("stopped"):
            stand.servers.postgres.stop()
            time.sleep(20 if LONG else 8)  # longer than a token's check is believed
            stand.servers.postgres.start()
        stand.wait_stored(50)
    stand.verdict("database", "handler")


@pytest.mark.long
@protected_by("trying_again", "missing")
def test_sqlite_is_locked_by_another_process(stand: Stand):
    stand.use_sqlite()
    stand.make_topic()
    stand.consume("database", "handler")
    with stand.records(rate=30):
        stand.wait_stored(50)
        for _ in range(3):
            with stand.fault("locked"), locked(stand.sqlite):
                time.sleep(6)  # three times the product's patience
            stand.wait_stored(100)
    stand.verdict("database", "handler")


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Another process than the product's holds the write lock of this SQLite database."""
    with contextlib.closing(sqlite3.connect(path, timeout=20)) as database:
        database.execute("BEGIN IMMEDIATE")
        yield
        database.rollback()


@protected_by("cutting_off", "duplicates")
def test_the_disk_is_full_and_writes_are_short(stand: Stand):
    """A disk of its own that is really full where we may mount one; anywhere the system's answers are put in."""
    with small_disk(stand.files) as full:
        stand.make_topic()
        stand.consume("file", "text", processes=2)
        with stand.records():
            stand.wait_stored(50, "file")
            for action in ("full", "short", "short", "full"):
                with stand.fault(action):
                    stand.kill_at("file.write", action=action)
                stand.wait_stored(30, "file")
            with stand.fault("fsync failed"):
                stand.kill_at("file.appended", action="fail")
            stand.wait_stored(30, "file")
            with stand.fault("disk full"), full():
                time.sleep(4)
            stand.wait_stored(100, "file")
        stand.verdict("file", "text")


@contextlib.contextmanager
def small_disk(folder: Path):
    """Mount a disk of 24 MB there, if this is root; gives what fills it for a while."""
    mounted = os.geteuid() == 0 and not subprocess.call(
        ["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", str(folder)], stderr=subprocess.DEVNULL
    )

    @contextlib.contextmanager
    def full():
        ballast = folder / "ballast"
        if mounted:
            with ballast.open("wb", buffering=0) as file, contextlib.suppress(OSError):
                while True:
                    file.write(bytes(4096))
            with pytest.raises(OSError, match=os.strerror(errno.ENOSPC)):
                (folder / "more").write_bytes(bytes(100_000))
        yield
        ballast.unlink(missing_ok=True)
        (folder / "more").unlink(missing_ok=True)

    try:
        yield full
    finally:
        if mounted:
            subprocess.check_call(["umount", "--lazy", str(folder)])


@pytest.mark.long
@protected_by("dead_letter", "missing")
def test_poison(stand: Stand):
    """1 in 1,000."""
    stand.make_topic()
    stand.make_topic(1, f"{stand.topic}.dead")
    stand.consume("handler", processes=2)
    with stand.records(poison=1_000, rate=500):
        stand.wait_stored(10_000, "handler")
    stand.verdict("handler", "letters", "letters sent", poison=True)


@pytest.mark.long
@protected_by("letter_confirmed", "missing")
def test_the_dead_letter_topic_is_down(stand: Stand):
    """It wants three copies, and one of the brokers is away: partitions with poison wait."""
    stand.make_topic()
    stand.make_topic(1, f"{stand.topic}.dead", min_insync_replicas="3")
    stand.consume("handler", processes=2)
    with stand.records(poison=50, rate=30):
        stand.wait_stored(30, "handler")
        with stand.fault("dead letter topic down"):
            stand.kafka.kill(2)
            time.sleep(25)
            stand.kafka.restart(2)
            stand.kafka.wait(90)
        stand.wait_stored(100, "handler")
    stand.verdict("handler", "letters", "letters sent", poison=True)


@pytest.mark.long
@protected_by("stored_position", "missing")
def test_the_database_is_restored_from_an_older_backup(stand: Stand):
    """Positions go back with the rows: what came since is read again."""
    stand.make_topic()
    consumer = stand.consume("database", "handler")
    with stand.records():
        for store in ("database", "handler"):
            stand.wait_stored(100, store)
        stand.end(consumer)
        restored(stand)
    stand.verdict("database", "handler")


@pytest.mark.long
@protected_by("told_start", "missing")
def test_the_database_is_restored_to_a_time_before_its_groups_began(stand: Stand):
    """There are no positions in the backup: the groups begin again where they had told Kafka that they began."""
    stand.make_topic()
    with stand.records():
        restored(stand)
    stand.verdict("database", "handler")


def restored(stand: Stand) -> None:
    """The backup is of now; messages are stored, the backup comes back, and messages are stored."""
    stand.servers.sql(f"CREATE DATABASE {stand.name}_backup TEMPLATE {stand.name}")
    consumer = stand.consume("database", "handler")
    for store in ("database", "handler"):
        stand.wait_stored(500, store)
    with stand.fault("restored"):
        stand.end(consumer)
        stand.servers.sql(f"DROP DATABASE {stand.name} WITH (FORCE)")
        stand.servers.sql(f"CREATE DATABASE {stand.name} TEMPLATE {stand.name}_backup")
        stand.consume("database", "handler")
    stand.wait_stored(500)
