"""System checks of TKREST."""

from collections.abc import Sequence
from urllib.parse import urlsplit

from django.apps import apps
from django.apps.config import AppConfig
from django.core.checks import CheckMessage, Error, register

from tkrest.conf import settings

Apps = Sequence[AppConfig] | None

OFFSET_RESETS = ("earliest", "latest", "none")


@register("tkrest")
def check_names(app_configs: Apps, **kwargs: object) -> list[CheckMessage]:
    """tkrest.E001: a name in TKREST that is no setting. E002: tk or tkcons is not installed."""
    found: list[CheckMessage] = [
        Error(f"TKREST has no setting {name!r}.", hint=f"Known: {', '.join(settings.defaults)}.", id="tkrest.E001")
        for name in settings.unknown()
    ]
    return found + [
        Error(
            f"tkrest needs {name!r} in INSTALLED_APPS.", hint="Its tokens and permissions are used.", id="tkrest.E002"
        )
        for name in ("tk", "tkcons")
        if not apps.is_installed(name)
    ]


@register("tkrest")
def check_values(app_configs: Apps, **kwargs: object) -> list[CheckMessage]:
    """tkrest.E003: a number that is none, or too small. E004: BASE_URI is no address. E005: another value."""
    found: list[CheckMessage] = []
    for name, default in settings.defaults.items():
        least = 1_024 if name == "FETCH_KIB" else 1  # librdkafka: a fetch holds the largest message
        value = getattr(settings, name)
        if isinstance(default, int | float) and not (isinstance(value, int | float) and value >= least):
            found.append(Error(f"TKREST[{name!r}] is {value!r}: no number from {least} on.", id="tkrest.E003"))
    uri = settings.BASE_URI
    if uri is not None and not (isinstance(uri, str) and urlsplit(uri).scheme in {"http", "https"}):
        hint = 'Such as "https://host-1.example.org/rest".'
        found.append(Error(f"TKREST['BASE_URI'] is {uri!r}: no address.", hint=hint, id="tkrest.E004"))
    if settings.AUTO_OFFSET_RESET not in OFFSET_RESETS:
        hint = f"One of {', '.join(OFFSET_RESETS)}."
        found.append(
            Error(f"TKREST['AUTO_OFFSET_RESET'] is {settings.AUTO_OFFSET_RESET!r}.", hint=hint, id="tkrest.E005")
        )
    if isinstance(settings.GROUPS, str):
        found.append(Error("TKREST['GROUPS'] is no list of patterns.", hint='Such as ["web-*"].', id="tkrest.E005"))
    return found
