"""Settings of the processes that tests start: one database group, the topic from the environment."""

import os

from tutorialkafka.settings_test import *  # noqa: F403

TKCONS = {
    "SINKS": {"database": {"class": "tkcons.sinks.DatabaseSink", "topics": [os.environ.get("CONSUME_TOPIC", "none")]}},
    "HEARTBEAT_SECONDS": 0.5,
}
