"""Settings, each from the environment; the defaults are a newcomer's.

DATA                folder of all that a run keeps (default ``var``)
DJANGO_DEBUG        1 or 0; ``manage.py runserver`` and ``make run`` turn it on, everything else leaves it off
SECRET_KEY          required unless on a checkout, where a key is generated into DATA
ALLOWED_HOSTS       comma separated; loopback names while DEBUG is on
CSRF_TRUSTED_ORIGINS  comma separated origins
KAFKA_BROKER_URL    bootstrap servers, comma separated (default localhost:9092)
CONSUMER_PROCESS    1: a consumer process runs beside the web server (`make run` sets it)
DATABASE_URL        default: SQLite in DATA; ``postgres://user:password@host/name`` where one process is outgrown
"""

import os
from pathlib import Path

import dj_database_url
from csp.constants import NONE, SELF

from tutorialkafka.environment import flag, names, secret_key

BASE_DIR = Path(__file__).resolve().parent.parent
DATA_GIVEN = "DATA" in os.environ
DATA = Path(os.environ.get("DATA", BASE_DIR / "var")).resolve()

DEBUG = flag("DJANGO_DEBUG")
SECRET_KEY = secret_key(DATA)
ALLOWED_HOSTS = names("ALLOWED_HOSTS") or (["localhost", "127.0.0.1", "[::1]"] if DEBUG else [])
CSRF_TRUSTED_ORIGINS = names("CSRF_TRUSTED_ORIGINS")

# The one setting a newcomer needs; KAFKA_CLIENT takes any librdkafka option (TLS, SASL) for every client.
KAFKA_BROKER_URL = os.environ.get("KAFKA_BROKER_URL", "localhost:9092")
KAFKA_CLIENT: dict[str, object] = {}

TK: dict[str, object] = {}
TKCONS: dict[str, object] = {
    # `make run` has a consumer process; a web process then takes a group only when somebody clicks /tkcons.
    "RUN_IN_WEB": DEBUG and not flag("CONSUMER_PROCESS"),
    "SINKS": {
        "database": {"class": "tkcons.sinks.DatabaseSink", "topics": ["sample-topic"]},
        "file": {
            "class": "tkcons.sinks.TextFileSink",
            "topics": ["sample-topic"],
            # The tutorial's place; a run that was given a folder of its own keeps the file there.
            "path": (DATA if DATA_GIVEN else BASE_DIR / "static") / "consumed_messages.txt",
        },
    },
}

INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "whitenoise.runserver_nostatic",
    "django.contrib.staticfiles",
    "csp",
    "django_htmx",
    "tk",
    "tkcons",
    "tkrest",
    "tklocal",
]

MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "csp.middleware.CSPMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.locale.LocaleMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "django_htmx.middleware.HtmxMiddleware",
]

ROOT_URLCONF = "tutorialkafka.urls"
WSGI_APPLICATION = "tutorialkafka.wsgi.application"
ASGI_APPLICATION = "tutorialkafka.asgi.application"

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ]
        },
    }
]

# No persistent connections: under ASGI each request has a thread of its own, whose connection would stay open behind it.
DATABASES = {"default": dj_database_url.config(default=f"sqlite:///{DATA / 'db.sqlite3'}", conn_max_age=0)}
if DATABASES["default"]["ENGINE"] == "django.db.backends.sqlite3":
    DATABASES["default"]["OPTIONS"] = {
        # A write transaction takes its lock at BEGIN and waits its turn, instead of failing half way.
        "transaction_mode": "IMMEDIATE",
        "timeout": 20,  # seconds
        # FULL: what was committed survives a power cut; the outbox calls that confirmed.
        "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; PRAGMA busy_timeout=20000;",
    }
else:
    DATABASES["default"]["CONN_HEALTH_CHECKS"] = True

SESSION_ENGINE = "tutorialkafka.sessions"

AUTH_PASSWORD_VALIDATORS = [
    {"NAME": f"django.contrib.auth.password_validation.{name}"}
    for name in (
        "UserAttributeSimilarityValidator",
        "MinimumLengthValidator",
        "CommonPasswordValidator",
        "NumericPasswordValidator",
    )
]
LOGIN_URL = "admin:login"

LANGUAGE_CODE = "en"
LANGUAGES = [("en", "English"), ("de", "Deutsch")]
TIME_ZONE = "UTC"
USE_TZ = True

STATIC_URL = "assets/"
STATIC_ROOT = DATA / "assets"
# The project's static/ folder holds the tutorial's file and is never served: see the check tkcons.E004.
WHITENOISE_USE_FINDERS = DEBUG
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {
        "BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"
        if DEBUG
        else "whitenoise.storage.CompressedManifestStaticFilesStorage"
    },
}

CONTENT_SECURITY_POLICY = {
    "DIRECTIVES": {
        "default-src": [NONE],
        "script-src": [SELF],
        "style-src": [SELF],
        "img-src": [SELF, "data:"],
        "font-src": [SELF],
        "connect-src": [SELF],
        "form-action": [SELF],
        "base-uri": [NONE],
        "frame-ancestors": [NONE],
    }
}
X_FRAME_OPTIONS = "DENY"
SECURE_REFERRER_POLICY = "same-origin"

# Behind a proxy that ends TLS; a plain-HTTP installation says INSECURE_HTTP=1.
if not DEBUG and not flag("INSECURE_HTTP"):
    SECURE_SSL_REDIRECT = True
    SECURE_REDIRECT_EXEMPT = [r"^(healthz|readyz|metrics)/?$"]
    SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https") if flag("BEHIND_PROXY") else None
    SECURE_HSTS_SECONDS = 31_536_000
    SECURE_HSTS_INCLUDE_SUBDOMAINS = True
    SECURE_HSTS_PRELOAD = True
    SESSION_COOKIE_SECURE = True
    CSRF_COOKIE_SECURE = True

# A message of 1 MiB trebles in a form's percent escapes, and may be six times as long in JSON's.
DATA_UPLOAD_MAX_MEMORY_SIZE = 7 * 1_048_576

DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
LOGGING_CONFIG = "tutorialkafka.logs.configure"
LOGGING = {"level": os.environ.get("LOG_LEVEL", "INFO"), "json": not DEBUG}
