"""What the project's log says, on standard error of a process of its own: logging is configured once a process."""

import os
import subprocess
import sys
from pathlib import Path

SCRIPT = """
import django
django.setup()
from django.test import Client
client = Client()
assert client.get("/readyz").status_code == 503
assert client.get("/nowhere").status_code == 404
"""


def test_an_answer_is_logged_once_and_a_cluster_that_is_not_ready_is_no_error(tmp_path):
    env = {
        **os.environ,
        "DJANGO_SETTINGS_MODULE": "tutorialkafka.settings",
        "DATA": str(tmp_path),
        "DJANGO_DEBUG": "1",  # Django's own handler is on then
        "ALLOWED_HOSTS": "testserver",
        "KAFKA_BROKER_URL": "localhost:1",
    }
    command = [sys.executable, "-W", "ignore", "-c", SCRIPT]
    done = subprocess.run(
        command, cwd=Path(__file__).parents[2], env=env, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "/readyz" not in done.stderr
    assert len([line for line in done.stderr.splitlines() if "Not Found: /nowhere" in line]) == 1
