"""Settings of the web servers whose events tests follow: room for few."""

from tutorialkafka.settings import *  # noqa: F403

TKCONS = {"VIEWERS": 4, "VIEWERS_WSGI": 3, "RUN_IN_WEB": False}
