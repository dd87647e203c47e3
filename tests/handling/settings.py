"""Settings of processes whose handlers are those of tests.handling."""

from tutorialkafka.settings_test import *  # noqa: F403
from tutorialkafka.settings_test import INSTALLED_APPS

INSTALLED_APPS = [*INSTALLED_APPS, "tests.handling"]
TKCONS = {"HEARTBEAT_SECONDS": 0.2, "RETRY_SECONDS": (0.1, 0.5)}
