"""The configuration that every Kafka client shares: KAFKA_BROKER_URL and KAFKA_CLIENT, from settings alone."""

import logging
import re
import time
from collections.abc import Mapping
from typing import Any

from django.conf import settings as django_settings

QUIET_SECONDS = 10.0


class _Once(logging.Filter):
    """Lets one of librdkafka's messages through, and the same again after QUIET_SECONDS.

    A broker that is down is told with each try to connect, many times a second.
    """

    def __init__(self) -> None:
        super().__init__()
        self._said: dict[str, float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        now = time.monotonic()
        what = re.sub(r"\d+", "", record.getMessage())  # without ports, milliseconds, client numbers
        if now - self._said.get(what, -QUIET_SECONDS) < QUIET_SECONDS:
            return False
        if len(self._said) > 1_000:
            self._said.clear()
        self._said[what] = now
        return True


librdkafka = logging.getLogger("librdkafka")
librdkafka.addFilter(_Once())


def client_config(
    options: Mapping[str, object] | None = None, defaults: Mapping[str, object] | None = None
) -> dict[str, Any]:
    """librdkafka's options for a client: the broker's address, `defaults`, over them the project's KAFKA_CLIENT, and over
    it `options`, on which promises rest."""
    return {
        "bootstrap.servers": getattr(django_settings, "KAFKA_BROKER_URL", "localhost:9092"),
        # Milliseconds: a broker that comes back is met soon, and a dead one is not hammered.
        "reconnect.backoff.ms": 100,
        "reconnect.backoff.max.ms": 1_000,
        **(defaults or {}),
        **getattr(django_settings, "KAFKA_CLIENT", {}),
        **(options or {}),
        "logger": librdkafka,
    }
