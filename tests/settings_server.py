"""Settings of the web servers that tests start: both sinks, a topic from the environment."""

import json
import os

from tutorialkafka.settings import *  # noqa: F403
from tutorialkafka.settings import DATA

FORCE_SCRIPT_NAME = os.environ.get("PREFIX")
TOPIC = os.environ.get("CONSUME_TOPIC", "none")
TK = {"TOPIC": TOPIC, **json.loads(os.environ.get("TK_SETTINGS", "{}"))}
TKCONS = {
    "SINKS": {
        "database": {"class": "tkcons.sinks.DatabaseSink", "topics": [TOPIC]},
        "file": {"class": "tkcons.sinks.TextFileSink", "topics": [TOPIC], "path": DATA / "consumed_messages.txt"},
    },
    "HEARTBEAT_SECONDS": 0.3,
}
