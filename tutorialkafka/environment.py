"""Reads the environment for settings.py."""

import os
import secrets
from pathlib import Path

from django.core.exceptions import ImproperlyConfigured


def flag(name: str) -> bool:
    """True for 1, true, yes or on; false for 0, false, no, off, an empty or a missing variable.

    Raises ImproperlyConfigured for any other text: a typing error must not turn a protection off.
    """
    text = os.environ.get(name, "").strip().lower()
    if text in {"1", "true", "yes", "on"}:
        return True
    if text in {"", "0", "false", "no", "off"}:
        return False
    raise ImproperlyConfigured(f"{name}={text!r} is neither on nor off: use 1 or 0.")


def names(name: str) -> list[str]:
    """The comma-separated names in a variable."""
    return [part.strip() for part in os.environ.get(name, "").split(",") if part.strip()]


def secret_key(data: Path) -> str:
    """SECRET_KEY, or on a checkout the key that the first start generated into DATA.

    Raises ImproperlyConfigured where neither is at hand.
    """
    key = os.environ.get("SECRET_KEY")
    if key:
        return key
    if not (flag("DJANGO_DEBUG") or flag("TUTORIALKAFKA_CHECKOUT")):
        raise ImproperlyConfigured("SECRET_KEY is not set. Give the process a long random string in SECRET_KEY.")
    path = data / "secret-key"
    try:
        return path.read_text()
    except FileNotFoundError:
        data.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(f"secret-key.{secrets.token_hex(4)}")
    fresh.touch(mode=0o600)
    fresh.write_text(secrets.token_urlsafe(50))
    try:
        path.hardlink_to(fresh)  # two processes that start together agree on the first one's key
    except FileExistsError:
        pass
    finally:
        fresh.unlink()
    return path.read_text()
