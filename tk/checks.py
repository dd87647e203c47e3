"""System checks of TK and the settings it shares with the other apps."""

from collections.abc import Sequence

from django.apps.config import AppConfig
from django.core.checks import CheckMessage, Error, register

from tk.conf import settings


@register("tk")
def check_names(app_configs: Sequence[AppConfig] | None, **kwargs: object) -> list[CheckMessage]:
    """tk.E001: a name in TK that is no setting."""
    return [
        Error(f"TK has no setting {name!r}.", hint=f"Known: {', '.join(settings.defaults)}.", id="tk.E001")
        for name in settings.unknown()
    ]
