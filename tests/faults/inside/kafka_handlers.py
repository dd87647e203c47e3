"""A handler whose every call can be counted afterwards."""

import os

from django.db import connection

from tests.faults.inside import steps
from tkcons import Received, handler

TOPIC = os.environ.get("FAULTS_TOPIC", "none")


@handler(
    TOPIC,
    group="faults.handler",
    tries=2,
    pauses=(0.05, 0.1),
    dead_letter=f"{TOPIC}.dead",
    timeout=float(os.environ.get("FAULTS_HANDLER_TIMEOUT", "60")),
)
def effect(received: Received) -> None:
    steps.reach("handler.slow")
    if received.value.endswith(b".poison"):
        raise ValueError("poison")
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO effect (value, partition, place) VALUES (%s, %s, %s)",
            [received.value, received.partition, received.offset],
        )
