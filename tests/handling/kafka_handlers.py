"""A handler that does what its messages say."""

import os
import signal
import time

from django.contrib.auth.models import Group as Role

from tkcons import Received, handler


@handler(os.environ.get("CONSUME_TOPIC", "none"), group="handling", decode=str, tries=2, pauses=(0.1, 0.2), timeout=2.0)
def obey(message: Received) -> None:
    match message.value:
        case "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        case "hang":
            time.sleep(600)
    Role.objects.create(name=message.value)
