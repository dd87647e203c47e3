"""What all scenarios share: three brokers, and PostgreSQL with a migrated database to copy."""

import contextlib
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, Self

import psycopg
from confluent_kafka.admin import AdminClient

from tklocal.kafka import Cluster
from tklocal.postgres import Postgres

ROOT = Path(__file__).parents[2]
EFFECT = """
CREATE TABLE effect (id {serial}, value {bytes} NOT NULL, partition int NOT NULL, place bigint NOT NULL,
    made_at timestamptz DEFAULT {now})
"""


class Servers:
    """What the scenarios share: a cluster of three brokers, a PostgreSQL server with a migrated database to copy."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.kafka = Cluster(
            folder / "kafka", brokers=3, port=0, topic=None, options={"group.min.session.timeout.ms": 1_000}
        )
        self.postgres = Postgres(folder / "postgres", options={"max_connections": 300})
        self.token = ""

    def __enter__(self) -> Self:
        self.postgres.start()
        try:
            self.kafka.launch()
            self._make_template()
            self.kafka.wait(120)
        except BaseException:
            self.__exit__()
            raise
        self.admin = AdminClient({"bootstrap.servers": self.kafka.bootstrap, "log_level": 0})
        return self

    def __exit__(self, *_: object) -> None:
        self.kafka.stop()
        self.postgres.stop()

    def sql(self, statement: str, database: str = "postgres") -> list[tuple[Any, ...]]:
        with psycopg.connect(self.url(database), autocommit=True) as connection:
            cursor = connection.execute(statement)
            return cursor.fetchall() if cursor.description else []

    def url(self, database: str) -> str:
        return self.postgres.url.rsplit("/", 1)[0] + f"/{database}"

    def heal(self) -> None:
        """All three brokers and PostgreSQL run and answer, whatever a scenario has left."""
        for node in range(3):
            with contextlib.suppress(ProcessLookupError):
                self.kafka.resume(node)
            if not self.kafka._children[node].alive:
                self.kafka.restart(node)
        self.kafka.wait(120)
        if not self.postgres.alive:
            self.postgres.start()

    def _make_template(self) -> None:
        self.sql("CREATE DATABASE template")
        self.token = make_database(self.url("template"), self.folder)


def make_database(url: str, folder: Path) -> str:
    """Migrate, add the table of the handler under test, and give an API token that may produce."""
    postgres = url.startswith("postgres")
    env = {
        **os.environ,
        "DATABASE_URL": url,
        "DATA": str(folder),
        "DJANGO_SETTINGS_MODULE": "tests.faults.inside.settings",
    }
    code = (
        "from django.core.management import execute_from_command_line as run; import os, sys;"
        "run(['', 'migrate', '-v0']); run(['', 'token', 'create', 'load', *os.environ['SCOPES'].split()]);"
        "from django.db import connection; connection.cursor().execute(os.environ['EFFECT'])"
    )
    env["SCOPES"] = "--scope tk.produce --scope tkcons.view_payload"
    env["EFFECT"] = EFFECT.format(
        serial="bigserial PRIMARY KEY" if postgres else "integer PRIMARY KEY",
        bytes="bytea" if postgres else "blob",
        now="clock_timestamp()" if postgres else "CURRENT_TIMESTAMP",
    )
    made = subprocess.run([sys.executable, "-c", code], env=env, cwd=ROOT, check=True, capture_output=True, text=True)
    return made.stdout.strip().splitlines()[-1]
