"""The test suite's settings: production's, but for a key and plain HTTP. A test that wants DEBUG asks for it."""

import os
import tempfile

os.environ.setdefault("SECRET_KEY", "only-for-tests-" + "x" * 50)
os.environ.setdefault("INSECURE_HTTP", "1")
os.environ.setdefault("DATA", tempfile.mkdtemp(prefix="tutorialkafka-test-"))

from tutorialkafka.settings import *  # noqa: F403
from tutorialkafka.settings import DATA, DATABASES, STATIC_ROOT

STATIC_ROOT.mkdir(parents=True, exist_ok=True)  # whitenoise warns without it

ALLOWED_HOSTS = ["localhost", "127.0.0.1", "testserver"]
DATABASES["default"]["TEST"] = {"NAME": DATA / "test.sqlite3"}  # a file: runners have threads of their own
STORAGES = {  # no manifest: collectstatic does not run before tests
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"},
}
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
