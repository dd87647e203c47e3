"""The project as production has it; what it consumes and with which sink comes from the benchmark that starts it."""

import json
import os
import secrets

os.environ.setdefault("SECRET_KEY", secrets.token_urlsafe(50))
os.environ.setdefault("INSECURE_HTTP", "1")
os.environ.setdefault("LOG_LEVEL", "WARNING")

from tutorialkafka.settings import *  # noqa: F403

TKCONS = {"SINKS": {"bench": json.loads(os.environ["BENCH_SINK"])} if "BENCH_SINK" in os.environ else {}}
