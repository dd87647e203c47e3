"""The project as production has it; one group that stores one topic, for the benchmarks that start processes."""

import os
import secrets

os.environ.setdefault("SECRET_KEY", secrets.token_urlsafe(50))
os.environ.setdefault("INSECURE_HTTP", "1")
os.environ.setdefault("LOG_LEVEL", "WARNING")

from tutorialkafka.settings import *  # noqa: F403

TKCONS = {
    "SINKS": {"bench": {"class": "tkcons.sinks.DatabaseSink", "topics": [os.environ.get("BENCH_TOPIC", "none")]}},
    "HEARTBEAT_SECONDS": 0.5,
}
