"""System checks of TKCONS. None of them asks Kafka or a database."""

import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from django.apps.config import AppConfig
from django.conf import settings as django_settings
from django.core.checks import CheckMessage, Error, register
from django.core.checks import Warning as CheckWarning
from django.core.exceptions import ImproperlyConfigured
from django.db import router
from django.utils.module_loading import import_string

from tk.conf import settings as producing
from tk.errors import InvalidTopic
from tk.record import check_topic
from tkcons.conf import settings
from tkcons.handlers import registry
from tkcons.options import CLASSIC_ONLY

CHOICES = {"PROTOCOL": ("classic", "consumer"), "START": ("earliest", "latest")}


@register("tkcons")
def check_names(app_configs: Sequence[AppConfig] | None, **kwargs: object) -> list[CheckMessage]:
    """tkcons.E001: a name in TKCONS that is no setting. E005: a value that is none of those known. W008: event ids are
    forgotten before their repeats may come."""
    unknown: list[CheckMessage] = [
        Error(f"TKCONS has no setting {name!r}.", hint=f"Known: {', '.join(settings.defaults)}.", id="tkcons.E001")
        for name in settings.unknown()
    ]
    if producing.IDEMPOTENCY_SECONDS > settings.EVENT_DAYS * 86_400:
        hint = "A request that is repeated late would be stored again: see TK['IDEMPOTENCY_SECONDS']."
        unknown.append(
            CheckWarning("Event ids are remembered for less time than Idempotency-Keys.", hint=hint, id="tkcons.W008")
        )
    return unknown + [
        Error(f"TKCONS[{name!r}] is {getattr(settings, name)!r}.", hint=f"One of {', '.join(known)}.", id="tkcons.E005")
        for name, known in CHOICES.items()
        if getattr(settings, name) not in known
    ]


@register("tkcons")
def check_mask(app_configs: Sequence[AppConfig] | None, **kwargs: object) -> list[CheckMessage]:
    """tkcons.E009: TKCONS["MASK"] is not of its form, and would hide something else than meant, or nothing."""
    hint = 'As {"fields": ["card", "customer.email"], "headers": ["authorization"]}.'
    given: Any = settings.MASK
    if not isinstance(given, Mapping):
        return [Error(f"TKCONS['MASK'] is {given!r}.", hint=hint, id="tkcons.E009")]
    return [
        Error(f"TKCONS['MASK'][{name!r}] is {listed!r}.", hint=hint, id="tkcons.E009")
        for name, listed in given.items()
        if name not in {"fields", "headers"}
        or not isinstance(listed, list | tuple)
        or not all(isinstance(each, str) and all(each.split(".") if name == "fields" else [each]) for each in listed)
    ]


@register("tkcons")
def check_protocol(app_configs: Sequence[AppConfig] | None, **kwargs: object) -> list[CheckMessage]:
    """tkcons.E008: options of the classic protocol in KAFKA_CLIENT, where the group protocol is KIP-848's."""
    refused = [name for name in CLASSIC_ONLY if name in getattr(django_settings, "KAFKA_CLIENT", {})]
    if settings.PROTOCOL != "consumer" or not refused:
        return []
    hint = "With TKCONS['PROTOCOL'] = 'consumer' the broker says: group.consumer.session.timeout.ms and the like."
    return [Error(f"KAFKA_CLIENT sets {', '.join(refused)}, which librdkafka refuses.", hint=hint, id="tkcons.E008")]


@register("tkcons")
def check_sinks(app_configs: Sequence[AppConfig] | None, **kwargs: object) -> list[CheckMessage]:
    """tkcons.E002: a sink that cannot be made. E003: two under one group. E004: messages where files are served."""
    found: list[CheckMessage] = []
    groups: dict[str, str] = {}
    for name, given in settings.SINKS.items():
        where = f"TKCONS['SINKS'][{name!r}]"
        try:
            group, path = _made(name, given)
        except (ImportError, ImproperlyConfigured, InvalidTopic, TypeError, ValueError) as error:
            found.append(Error(f"{where}: {error}", id="tkcons.E002"))
            continue
        if group in groups:
            hint = "Each sink is a group of its own, so that each fails, lags and resets alone."
            found.append(Error(f"{where} has the group of {groups[group]!r}: {group}.", hint=hint, id="tkcons.E003"))
        groups[group] = name
        if made := registry.get(group):
            found.append(Error(f"{where} has the group of the handler {made.name}: {group}.", id="tkcons.E003"))
        if path is not None:
            found += [
                Error(f"{where} writes messages into {folder}, which is served to everybody.", id="tkcons.E004")
                for folder in _served()
                if path.resolve().is_relative_to(folder)
            ]
    return found


def _made(name: str, given: Any) -> tuple[str, Path | None]:
    """The group of the sink and the path of its file, if it has one. Nothing is opened."""
    from tkcons.sinks.base import Sink

    if not isinstance(given, Mapping) or "class" not in given or "topics" not in given:
        raise ImproperlyConfigured('it is no dict with "class" and "topics".')
    options = dict(given)
    sink_class, topics = import_string(options.pop("class")), options.pop("topics")
    if not (isinstance(sink_class, type) and issubclass(sink_class, Sink)):
        raise ImproperlyConfigured(f"{given['class']} is no subclass of tkcons.sinks.Sink.")
    if isinstance(topics, str) or not topics:
        raise ImproperlyConfigured('"topics" is no list of names.')
    for topic in topics:
        if not isinstance(topic, str):
            raise ImproperlyConfigured(f"{topic!r} is no topic's name.")
        check_topic(topic)
    group, start = options.pop("group", f"tkcons.{name}"), options.pop("start", "earliest")
    if not (isinstance(start, int | datetime) or start in CHOICES["START"]):
        raise ImproperlyConfigured(f'"start" is {start!r}: neither earliest, latest, an offset nor a datetime.')
    path = getattr(sink_class(group, **options), "path", None)
    return group, path if isinstance(path, Path) else None


def _served() -> Iterator[Path]:
    listed: Sequence[Any] = django_settings.STATICFILES_DIRS
    folders = [getattr(django_settings, "STATIC_ROOT", None), getattr(django_settings, "MEDIA_ROOT", None)]
    folders += [entry[1] if isinstance(entry, list | tuple) else entry for entry in listed]
    for folder in folders:
        if folder:
            yield Path(folder).resolve()


@register("tkcons")
def check_databases(app_configs: Sequence[AppConfig] | None, **kwargs: object) -> list[CheckMessage]:
    """tkcons.E006: a database that positions cannot live in. W007: SQLite that fails instead of waiting its turn."""
    from tkcons.models import Message

    found: list[CheckMessage] = []
    databases: Mapping[str, Mapping[str, Any]] = django_settings.DATABASES
    aliases = {str(router.db_for_write(Message))}
    aliases |= {made.using for made in registry.values() if made.using is not None}
    aliases |= {
        str(given["using"]) for given in settings.SINKS.values() if isinstance(given, Mapping) and "using" in given
    }
    for alias in sorted(aliases):
        database = databases.get(alias, {})
        engine = str(database.get("ENGINE", ""))
        if engine.endswith(".sqlite3"):
            found += _sqlite(alias, database.get("OPTIONS", {}))
        elif "postgresql" not in engine:
            hint = "SQLite and PostgreSQL are supported."
            found.append(
                Error(f"tkcons cannot store in {alias!r} ({engine or 'unknown'}).", hint=hint, id="tkcons.E006")
            )
    return found


def _sqlite(alias: str, options: Mapping[str, Any]) -> Iterator[CheckMessage]:
    missing = []
    if options.get("transaction_mode") != "IMMEDIATE":
        missing.append('"transaction_mode": "IMMEDIATE"')
    if options.get("timeout", 5) < 5:
        missing.append('"timeout": 20')
    if not re.search(r"journal_mode\s*=\s*wal", options.get("init_command", ""), re.IGNORECASE):
        missing.append('"init_command": "PRAGMA journal_mode=WAL;"')
    if missing:
        hint = f"DATABASES[{alias!r}]['OPTIONS'] should have {', '.join(missing)}."
        yield CheckWarning(
            f"The consumer and the web server will meet 'database is locked' in {alias!r}.", hint=hint, id="tkcons.W007"
        )


@register("tkcons")
def check_persistent_connections(app_configs: Sequence[AppConfig] | None, **kwargs: object) -> list[CheckMessage]:
    """tkcons.W010: database connections that outlive their requests, in a project that is served by ASGI."""
    if not getattr(django_settings, "ASGI_APPLICATION", None):
        return []
    hint = (
        "Under ASGI each request has a thread of its own, behind which its connection would stay open: leave it at 0."
    )
    return [
        CheckWarning(
            f"DATABASES[{alias!r}] has CONN_MAX_AGE, and ASGI_APPLICATION is set.", hint=hint, id="tkcons.W010"
        )
        for alias, database in sorted(django_settings.DATABASES.items())
        if database.get("CONN_MAX_AGE", 0) != 0
    ]
