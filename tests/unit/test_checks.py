"""Each system check speaks when it should, and is silent otherwise."""

import pytest
from django.conf import settings as django_settings
from django.core.checks import run_checks


def ids(*tags: str) -> list[str]:
    return [message.id for message in run_checks(tags=tags)]


def test_traces_need_their_package(settings, monkeypatch):
    settings.TK = {"TRACING": True}
    assert ids("tk") == []
    monkeypatch.setattr("tk.tracing.installed", False)
    assert ids("tk") == ["tk.E007"]


def test_the_projects_settings_are_in_order():
    assert ids("tk", "tkcons") == []


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("TK", {"TOPIK": "x"}, "tk.E001"),
        ("KAFKA_BROKER_URL", "", "tk.E002"),
        ("KAFKA_CLIENT", {"acks": "0"}, "tk.E003"),
        ("TK", {"TOPIC": "a/b"}, "tk.E004"),
        ("TK", {"DELIVERY_TIMEOUT": 10.0}, "tk.E005"),
        ("MIDDLEWARE", [*django_settings.MIDDLEWARE, "shop.middleware.Audit"], "tk.W002"),
        ("DATA_UPLOAD_MAX_MEMORY_SIZE", 2_621_440, "tk.W001"),
        ("TKCONS", {"SINK": {}}, "tkcons.E001"),
    ],
)
def test_a_mistake_is_told(settings, name, value, expected):
    setattr(settings, name, value)
    assert ids("tk", "tkcons") == [expected]


def test_without_the_fast_lane_no_middleware_is_passed_by(settings):
    settings.MIDDLEWARE = [*settings.MIDDLEWARE, "shop.middleware.Audit"]
    settings.ASGI_APPLICATION = None
    assert ids("tk") == []
