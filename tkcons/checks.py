"""System checks of TKCONS."""

from collections.abc import Sequence

from django.apps.config import AppConfig
from django.core.checks import CheckMessage, Error, register

from tkcons.conf import settings


@register("tkcons")
def check_names(app_configs: Sequence[AppConfig] | None, **kwargs: object) -> list[CheckMessage]:
    """tkcons.E001: a name in TKCONS that is no setting."""
    return [
        Error(f"TKCONS has no setting {name!r}.", hint=f"Known: {', '.join(settings.defaults)}.", id="tkcons.E001")
        for name in settings.unknown()
    ]
