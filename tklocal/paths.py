"""Where servers on this machine keep their data."""

from pathlib import Path

from django.conf import settings


def folder(given: str | None, name: str) -> Path:
    """The folder that was asked for, or `name` under the project's DATA (default: var, where the command runs)."""
    return Path(given).resolve() if given else Path(getattr(settings, "DATA", "var")).resolve() / name
