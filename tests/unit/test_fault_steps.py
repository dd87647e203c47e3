"""The fault suite's steps and protections are named after functions of the product: they must be found there."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.faults.inside.without import PROTECTIONS

SHARED_CHANGE = ["orderly_end", "producer_after_fork"]  # of Python itself, or with a client of its own


@pytest.mark.parametrize("names", [",".join(name for name in PROTECTIONS if name not in SHARED_CHANGE)])
def test_what_is_patched_is_there(names: str, tmp_path):
    env = {
        **os.environ,
        "DATA": str(tmp_path),
        "DJANGO_SETTINGS_MODULE": "tests.faults.inside.settings",
        "FAULTS_WITHOUT": names,
    }
    command = [sys.executable, "-c", "import django; django.setup()"]
    done = subprocess.run(command, env=env, cwd=Path(__file__).parents[2], check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
