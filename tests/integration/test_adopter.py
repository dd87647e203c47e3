"""The apps in somebody else's Django project: under a prefix, without admin, sessions or messages, ATOMIC_REQUESTS on."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.kafka

ROOT = Path(__file__).parents[2]

PROJECT = {
    "shop/__init__.py": "",
    "shop/models.py": (
        "from django.contrib.auth.models import AbstractUser\n"
        "class Person(AbstractUser):\n    class Meta: app_label = 'shop'\n"
    ),
    "shop/settings.py": """
import os
SECRET_KEY = "shop"
DEBUG = True
ALLOWED_HOSTS = ["testserver"]
INSTALLED_APPS = ["django.contrib.contenttypes", "django.contrib.auth", "django.contrib.staticfiles", "shop", "tk", "tkcons"]
MIDDLEWARE = ["django.middleware.common.CommonMiddleware"]
ROOT_URLCONF = "shop.urls"
AUTH_USER_MODEL = "shop.Person"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
STATIC_URL = "static/"
APPEND_SLASH = os.environ["APPEND_SLASH"] == "1"
TEMPLATES = [{"BACKEND": "django.template.backends.django.DjangoTemplates", "APP_DIRS": True,
    "OPTIONS": {"context_processors": ["django.template.context_processors.request"]}}]
DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": os.environ["SHOP_DB"], "ATOMIC_REQUESTS": True,
    "OPTIONS": {"transaction_mode": "IMMEDIATE", "timeout": 20, "init_command": "PRAGMA journal_mode=WAL"}}}
DATA_UPLOAD_MAX_MEMORY_SIZE = 7 * 1_048_576
KAFKA_BROKER_URL = os.environ["BROKER"]
TK = {"TOPIC": os.environ["TOPIC"]}
TKCONS = {"SINKS": {"database": {"class": "tkcons.sinks.DatabaseSink", "topics": [os.environ["TOPIC"]]}}}
""",
    "shop/urls.py": """
from django.urls import include, path
urlpatterns = [path("kafka/", include("tk.urls")), path("kafka/", include("tkcons.urls"))]
""",
    "use.py": """
import os, time
os.environ["DJANGO_SETTINGS_MODULE"] = "shop.settings"
import django
django.setup()
from django.core.management import call_command
from django.test import Client
from django.urls import reverse
call_command("migrate", verbosity=0, run_syncdb=True)
call_command("check", fail_level="WARNING")
client = Client()
assert reverse("tk:produce") == "/kafka/tkprod"
assert reverse("tkcons:read") == "/kafka/tkcons/read"
for path in ("/kafka/tkprod", "/kafka/tkprod/"):
    assert client.get(path + "?message=hello").content == b"Produced message.", path
    assert client.post(path, "hello", "text/plain").content == b"Produced message.", path
for path in ("/kafka/tkcons", "/kafka/tkcons/"):
    assert client.get(path).content == b"Started consumer", path
    assert client.post(path).content == b"Started consumer", path
deadline = time.monotonic() + 30
while len(lines := b"".join(client.get("/kafka/tkcons/read/?format=jsonl")).splitlines()) < 4:
    assert time.monotonic() < deadline, lines
    time.sleep(0.1)
assert client.get("/kafka/tkcons/read", headers={"accept": "text/html"}).status_code == 200
assert client.get("/kafka/tkcons/status").json()["groups"][0]["desired"] == "running"
assert client.get("/kafka/tkcons/read").status_code == 404  # no text file is configured
from tkcons import web
web.stop()
print("all of it works")
""",
}


@pytest.mark.parametrize("append_slash", ["0", "1"])
def test_two_apps_two_includes(broker, topic, tmp_path, append_slash):
    for name, text in PROJECT.items():
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    env = {
        **os.environ,
        "PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}",
        "BROKER": broker,
        "TOPIC": topic,
        "SHOP_DB": str(tmp_path / "db"),
        "APPEND_SLASH": append_slash,
    }
    env.pop("DJANGO_SETTINGS_MODULE", None)
    done = subprocess.run(
        [sys.executable, "use.py"], cwd=tmp_path, env=env, capture_output=True, text=True, timeout=90, check=False
    )
    assert "all of it works" in done.stdout, done.stdout + done.stderr
