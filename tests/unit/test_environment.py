import stat

import pytest
from django.core.exceptions import ImproperlyConfigured

from tutorialkafka.environment import flag, secret_key


@pytest.mark.parametrize(("text", "on"), [("1", True), ("yes", True), ("0", False), ("", False), ("Off", False)])
def test_a_flag(monkeypatch, text, on):
    monkeypatch.setenv("FLAG", text)
    assert flag("FLAG") is on


def test_a_typing_error_is_no_flag(monkeypatch):
    monkeypatch.setenv("FLAG", "ture")
    with pytest.raises(ImproperlyConfigured):
        flag("FLAG")


def test_a_server_needs_a_secret_key(monkeypatch, tmp_path):
    for name in ("SECRET_KEY", "DJANGO_DEBUG", "TUTORIALKAFKA_CHECKOUT"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(ImproperlyConfigured):
        secret_key(tmp_path)


def test_on_a_checkout_a_key_is_made_once_and_kept_from_others(monkeypatch, tmp_path):
    monkeypatch.delenv("SECRET_KEY", raising=False)
    monkeypatch.setenv("TUTORIALKAFKA_CHECKOUT", "1")
    key = secret_key(tmp_path / "var")
    assert len(key) > 50
    assert secret_key(tmp_path / "var") == key
    assert [path.name for path in (tmp_path / "var").iterdir()] == ["secret-key"]
    assert stat.S_IMODE((tmp_path / "var" / "secret-key").stat().st_mode) == 0o600
