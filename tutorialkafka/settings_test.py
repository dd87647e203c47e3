"""The test suite's settings: production's, but for a key and plain HTTP. A test that wants DEBUG asks for it."""

import atexit
import os
import shutil
import tempfile

os.environ.setdefault("SECRET_KEY", "only-for-tests-" + "x" * 50)
os.environ.setdefault("INSECURE_HTTP", "1")

if (
    "DATA" not in os.environ
):  # a folder for this process and those that it starts, which goes with it, but not with a fork
    _folder, _maker = tempfile.mkdtemp(prefix="tutorialkafka-test-"), os.getpid()
    os.environ["DATA"] = _folder
    atexit.register(lambda: shutil.rmtree(_folder, ignore_errors=True) if os.getpid() == _maker else None)

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
