"""System checks of TK and of the settings that every app shares."""

from collections.abc import Sequence
from importlib.abc import SourceLoader
from importlib.util import find_spec

from django.apps.config import AppConfig
from django.conf import settings as django_settings
from django.core.checks import CheckMessage, Error, Warning, register  # noqa: A004

from tk import tracing
from tk.bypass import passed_by
from tk.conf import settings
from tk.errors import InvalidTopic
from tk.idempotency import GRACE_SECONDS
from tk.record import check_topic
from tk.request import body_limit

Apps = Sequence[AppConfig] | None


@register("tk")
def check_names(app_configs: Apps, **kwargs: object) -> list[CheckMessage]:
    """tk.E001: a name in TK that is no setting."""
    return [
        Error(f"TK has no setting {name!r}.", hint=f"Known: {', '.join(settings.defaults)}.", id="tk.E001")
        for name in settings.unknown()
    ]


@register("tk")
def check_broker(app_configs: Apps, **kwargs: object) -> list[CheckMessage]:
    """tk.E002: no broker is named. tk.E003: an option in KAFKA_CLIENT that is not the project's to set."""
    found: list[CheckMessage] = []
    url = getattr(django_settings, "KAFKA_BROKER_URL", "localhost:9092")
    if not isinstance(url, str) or not url.strip():
        found.append(
            Error("KAFKA_BROKER_URL names no broker.", hint='Such as "localhost:9092", comma separated.', id="tk.E002")
        )
    kept = {"enable.idempotence", "acks", "enable.auto.commit", "group.id", "transactional.id", "bootstrap.servers"}
    found += [
        Error(
            f"KAFKA_CLIENT sets {name}, on which the promise of no loss and no duplicate rests.",
            hint="Take it out; brokers are named in KAFKA_BROKER_URL.",
            id="tk.E003",
        )
        for name in sorted(kept & set(getattr(django_settings, "KAFKA_CLIENT", {})))
    ]
    return found


@register("tk")
def check_middleware(app_configs: Apps, **kwargs: object) -> list[CheckMessage]:
    """tk.W002: the fast lane is in use and passes by middleware that it cannot stand in for."""
    passed = passed_by()
    if not passed or not _has_lane():
        return []
    return [
        Warning(
            f"The fast lane passes by {', '.join(passed)}: what that does to requests is not done to those of /tkprod.",
            hint="Take tk.asgi.fast_lane() out of asgi.py, or silence tk.W002 where it does not matter.",
            id="tk.W002",
        )
    ]


def _has_lane() -> bool:
    """Whether the project's ASGI module names the fast lane; its text is looked at, for importing it would start things."""
    name = getattr(django_settings, "ASGI_APPLICATION", None)
    try:
        spec = find_spec(name.rpartition(".")[0]) if name else None
    except (ImportError, ValueError):
        return False
    if spec is None or not isinstance(spec.loader, SourceLoader):
        return False
    return "fast_lane(" in (spec.loader.get_source(spec.name) or "")


@register("tk")
def check_values(app_configs: Apps, **kwargs: object) -> list[CheckMessage]:
    """tk.E004: TOPIC is no topic's name. tk.E005: DELIVERY_TIMEOUT is not within REQUEST_TIMEOUT. tk.E006: requests are
    forgotten while they are under way. tk.E007: traces are on without their package.

    tk.W001: Django refuses bodies that a message of the allowed size may need.
    """
    found: list[CheckMessage] = []
    try:
        check_topic(settings.TOPIC)
    except InvalidTopic as error:
        found.append(Error(f"TK['TOPIC'] is {settings.TOPIC!r}. {error}", id="tk.E004"))
    if settings.DELIVERY_TIMEOUT >= settings.REQUEST_TIMEOUT:
        found.append(
            Error(
                "TK['DELIVERY_TIMEOUT'] is not less than TK['REQUEST_TIMEOUT'].",
                hint="A request must hear what became of its message.",
                id="tk.E005",
            )
        )
    if settings.IDEMPOTENCY_SECONDS <= settings.REQUEST_TIMEOUT + GRACE_SECONDS:
        found.append(
            Error(
                "TK['IDEMPOTENCY_SECONDS'] is not longer than a request may take.",
                hint=f"More than {settings.REQUEST_TIMEOUT + GRACE_SECONDS}; a day is usual.",
                id="tk.E006",
            )
        )
    if settings.TRACING and not tracing.installed:
        hint = "pip install tutorialkafka[otel]."
        found.append(Error("TK['TRACING'] is on, and opentelemetry-api is not installed.", hint=hint, id="tk.E007"))
    limit = django_settings.DATA_UPLOAD_MAX_MEMORY_SIZE
    if limit is not None and limit < body_limit():
        found.append(
            Warning(
                f"DATA_UPLOAD_MAX_MEMORY_SIZE is {limit}: Django refuses bodies that a message of "
                f"{settings.MAX_VALUE_BYTES} bytes may need.",
                hint=f"Set it to {body_limit()}, or lower TK['MAX_VALUE_BYTES'].",
                id="tk.W001",
            )
        )
    return found
