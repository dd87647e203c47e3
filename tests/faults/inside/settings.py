"""Settings of the processes under test: production's, impatient, with groups for every kind of sink."""

import os
from pathlib import Path

from tutorialkafka.settings_test import *  # noqa: F403
from tutorialkafka.settings_test import DATABASES, INSTALLED_APPS

TOPIC = os.environ.get("FAULTS_TOPIC", "none")
TOPICS = [TOPIC, *filter(None, [os.environ.get("FAULTS_SECOND_TOPIC")])]
FOLDER = Path(os.environ.get("FAULTS_FILES", "."))

INSTALLED_APPS = [*INSTALLED_APPS, "tests.faults.inside"]
ROOT_URLCONF = "tests.faults.inside.urls"
TK = {"TOPICS": ["*"], "OUTBOX_LEASE_SECONDS": 3.0, "OUTBOX_POLL_SECONDS": 0.1}
TKCONS = {
    "SINKS": {
        "database": {"class": "tkcons.sinks.DatabaseSink", "topics": TOPICS},
        "file": {"class": "tkcons.sinks.JsonLinesSink", "topics": TOPICS, "path": FOLDER / "messages.jsonl"},
        "text": {"class": "tkcons.sinks.TextFileSink", "topics": TOPICS, "path": FOLDER / "consumed_messages.txt"},
    },
    "START": os.environ.get("FAULTS_START", "earliest"),
    "BATCH": 200,
    "HEARTBEAT_SECONDS": 0.5,
    "RETRY_SECONDS": (0.1, 1.0),
    "REVOKE_SECONDS": 4.0,
    "STOP_SECONDS": 10.0,
    "RUN_IN_WEB": False,
    "VIEWERS": int(os.environ.get("FAULTS_VIEWERS", "1000")),
}
KAFKA_CLIENT = {
    "session.timeout.ms": 4_000,
    "heartbeat.interval.ms": 500,
    "max.poll.interval.ms": int(os.environ.get("FAULTS_POLL_MS", "300000")),
    "topic.metadata.refresh.interval.ms": 2_000,
}
SQLITE = {
    "transaction_mode": "IMMEDIATE",
    "timeout": 2,
    "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; PRAGMA busy_timeout=2000;",
}
if DATABASES["default"]["ENGINE"].endswith("sqlite3"):
    DATABASES["default"]["OPTIONS"] = SQLITE
if SECOND := os.environ.get("FAULTS_SQLITE"):
    DATABASES["sqlite"] = {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": SECOND,
        "OPTIONS": SQLITE,
    }
    TKCONS["SINKS"]["sqlite"] = {"class": "tkcons.sinks.DatabaseSink", "topics": TOPICS, "using": "sqlite"}
