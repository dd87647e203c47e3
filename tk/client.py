"""The configuration that every Kafka client shares: KAFKA_BROKER_URL and KAFKA_CLIENT, from settings alone."""

import logging
from collections.abc import Mapping
from typing import Any

from django.conf import settings as django_settings

librdkafka = logging.getLogger("librdkafka")


def client_config(options: Mapping[str, object] | None = None) -> dict[str, Any]:
    """librdkafka's options for a client: the broker's address, the project's KAFKA_CLIENT, and `options` over both."""
    return {
        "bootstrap.servers": getattr(django_settings, "KAFKA_BROKER_URL", "localhost:9092"),
        # Milliseconds: a broker that comes back is met soon, and a dead one is not hammered.
        "reconnect.backoff.ms": 50,
        "reconnect.backoff.max.ms": 1_000,
        **getattr(django_settings, "KAFKA_CLIENT", {}),
        **(options or {}),
        "logger": librdkafka,
    }
