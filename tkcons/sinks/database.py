"""The database sink: the rows and the partition's next offset in one transaction."""

import contextlib
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from itertools import chain
from typing import Any

from confluent_kafka import TIMESTAMP_LOG_APPEND_TIME, TIMESTAMP_NOT_AVAILABLE
from django.db import DatabaseError, IntegrityError, InterfaceError, connections, router, transaction
from django.utils import timezone
from django.utils.translation import gettext_noop as _

from tk.record import dump_headers
from tkcons import positions, retention, stored
from tkcons.errors import SinkDamaged, SinkUnavailable
from tkcons.models import Message
from tkcons.sinks.base import Batch, Claim, Place, Sink

COLUMNS = ("position_id", "offset", "timestamp", "timestamp_type", "key", "value", "headers", "stored_at")
KEEP_SECONDS = 60.0  # how often partitions are made and events that are too old are forgotten
Row = tuple[int, int, int | None, int, bytes | None, bytes | None, str | None, datetime | str | None]


class PositionedSink(Sink):
    """A sink whose positions are rows of tkcons.Position. Option `using`: the database alias (default: the router's)."""

    stores = True  # messages; a handler stores none

    def __init__(self, group: str, *, using: str | None = None, **options: Any) -> None:
        super().__init__(group, **options)
        self.using = using or router.db_for_write(Message)
        self._keys: dict[Place, int] = {}
        self._kept_at = 0.0

    def claim(self, places: Iterable[Place]) -> dict[Place, Claim]:
        with translated():
            claims, keys = positions.claim(self.group, places, self.using)
        self._keys.update(keys)
        return claims

    def begin(self, starts: dict[Place, int]) -> None:
        with translated():
            positions.begin(self.group, starts, self.using, stores=self.stores)

    def knows(self, topic: str) -> bool:
        with translated():
            return positions.knows(self.group, topic, self.using)

    def begun(self, places: Iterable[Place]) -> dict[Place, int]:
        with translated():
            return positions.begun(self.group, places, self.using)

    def seek(self, place: Place, claim: Claim, offset: int) -> None:
        with translated():
            positions.seek(place, claim, offset, self._keys[place], self.using)

    def tick(self) -> None:
        now = time.monotonic()
        if now - self._kept_at > KEEP_SECONDS:
            self._kept_at = now
            with contextlib.suppress(DatabaseError, InterfaceError):  # the next time does
                self.keep()

    def keep(self) -> None:
        """Called about once a minute by the thread that writes."""
        positions.forget_events(self.group, self.using)


class DatabaseSink(PositionedSink):
    """Stores every message as a row of tkcons.Message."""

    def write(self, batches: Sequence[Batch]) -> None:
        connection = connections[self.using]
        # As the database's driver wants it: adapted once a batch and not once a row.
        now = connection.ops.adapt_datetimefield_value(timezone.now())
        insert = _copy if connection.vendor == "postgresql" else _insert
        with translated(), transaction.atomic(using=self.using):
            positions.limit_waits(self.using)
            positions.advance(batches, self._keys, self.using)
            batches = positions.without_repeats(self.group, batches, self._keys, self.using)
            insert(connection, chain.from_iterable(_rows(self._keys[batch.place], batch, now) for batch in batches))
            stored.announce(self.using)

    def keep(self) -> None:
        super().keep()
        retention.make_partitions(self.using)


def _rows(key: int, batch: Batch, now: datetime | str | None) -> Iterator[Row]:
    message: Any  # confluent-kafka's types allow for errors and deserializers, which are not here
    for message in batch.messages:
        kind, timestamp = message.timestamp()
        headers = message.headers()
        yield (
            key,
            message.offset(),
            None if kind == TIMESTAMP_NOT_AVAILABLE else timestamp,
            1 if kind == TIMESTAMP_LOG_APPEND_TIME else 0,
            message.key(),
            message.value(),
            dump_headers(tuple(headers)) if headers else None,
            now,
        )


def _names(connection: Any) -> str:
    return ", ".join(connection.ops.quote_name(column) for column in COLUMNS)


def _insert(connection: Any, rows: Iterator[Row]) -> None:
    """executemany: one prepared statement, no model instance a row."""
    table = connection.ops.quote_name(Message._meta.db_table)
    marks = ", ".join(["%s"] * len(COLUMNS))
    with connection.cursor() as cursor:
        cursor.executemany(f"INSERT INTO {table} ({_names(connection)}) VALUES ({marks})", rows)  # noqa: S608


def _copy(connection: Any, rows: Iterator[Row]) -> None:
    """COPY on the open transaction's own connection: several times as fast as INSERT."""
    table = connection.ops.quote_name(Message._meta.db_table)
    with (
        connection.cursor() as cursor,
        connection.wrap_database_errors,  # Django wraps its own calls; this is psycopg's
        cursor.copy(f"COPY {table} ({_names(connection)}) FROM STDIN (FORMAT BINARY)") as copy,
    ):
        copy.set_types(["int8", "int8", "int8", "int2", "bytea", "bytea", "text", "timestamptz"])
        write: Callable[[Row], None] = copy.write_row
        for row in rows:
            write(row)


@contextmanager
def translated() -> Iterator[None]:
    """The database's errors as ours."""
    try:
        yield
    except IntegrityError as error:
        raise SinkDamaged(
            _("An offset is stored already though the position is before it: %(error)s"), error=error
        ) from error
    except (DatabaseError, InterfaceError) as error:
        raise SinkUnavailable(_("The database cannot store now: %(error)s"), error=error) from error
