"""The pytest plugins as somebody else's project has them."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

SETTINGS = "tutorialkafka.settings_test"
ROOT = Path(__file__).parent.parent.parent

PROJECT = """
import pytest, threading, tk
from django.db import transaction
from tkcons import handler

handled = []

@handler("orders", group="g", decode=dict)
def take(message):
    handled.append(message.value)

def test_fake(kafka_outbox, db):
    with transaction.atomic():
        tk.publish("orders", {"id": 1})
    tk.produce("orders", {"id": 2})
    kafka_outbox.assertProduced("orders", count=2)

def test_handler(run_consumer):
    consumed = run_consumer(take, [{"id": 1}, b"{broken"])
    assert (consumed.handled, len(consumed.dead_letters), handled) == (1, 1, [{"id": 1}])

def test_broker(kafka_broker):
    assert tk.produce("sample-topic", "x").offset >= 0

def test_no_thread_is_left():
    assert not [t for t in threading.enumerate() if t.name.startswith("tk-")]
"""


def run_project(tmp_path: Path, *args: str) -> str:
    (tmp_path / "test_project.py").write_text(PROJECT)
    plugins = [part for app in ("tk", "tkcons", "tklocal") for part in ("-p", f"{app}.pytest_plugin")]
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "-p",
            "no:cacheprovider",
            *plugins,
            str(tmp_path / "test_project.py"),
            *args,
        ],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT), "DJANGO_SETTINGS_MODULE": SETTINGS, "DATA": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    return done.stdout + done.stderr


def test_the_plugins_in_a_project(tmp_path):
    assert "3 passed, 1 deselected" in run_project(tmp_path, "-k", "not broker")


@pytest.mark.kafka
@pytest.mark.timeout(240)
def test_the_plugins_real_broker(tmp_path):
    assert "2 passed, 2 deselected" in run_project(tmp_path, "-k", "broker or thread")
