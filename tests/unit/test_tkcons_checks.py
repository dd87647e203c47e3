"""The system checks of tkcons: a mistake in the settings is told before anything runs."""

import pytest
from confluent_kafka import Consumer, KafkaException
from django.conf import settings as django_settings

from tk.client import client_config
from tkcons import checks, options

DATABASE = {"class": "tkcons.sinks.DatabaseSink", "topics": ["orders"]}
FILE = {"class": "tkcons.sinks.TextFileSink", "topics": ["orders"]}


def ids(found) -> list[str]:
    return [message.id for message in found]


def test_the_projects_own_settings_are_in_order():
    assert checks.check_names(None) + checks.check_sinks(None) + checks.check_databases(None) == []


@pytest.mark.parametrize("given", [{"SINK": {}}, {"BATCHES": 1}])
def test_an_unknown_name(settings, given):
    settings.TKCONS = given
    assert ids(checks.check_names(None)) == ["tkcons.E001"]


@pytest.mark.parametrize("given", [{"PROTOCOL": "kip-848"}, {"START": "newest"}])
def test_an_unknown_value(settings, given):
    settings.TKCONS = given
    assert ids(checks.check_names(None)) == ["tkcons.E005"]


@pytest.mark.parametrize(
    "given",
    [
        ["card"],
        None,
        {"field": ["card"]},
        {"fields": "card"},  # would hide fields of one letter
        {"headers": {"authorization"}},
        {"fields": [7]},
        {"fields": ["customer."]},
        {"headers": [""]},
    ],
)
def test_a_mask_that_is_not_of_its_form(settings, given):
    settings.TKCONS = {"MASK": given}
    assert ids(checks.check_mask(None)) == ["tkcons.E009"]


@pytest.mark.parametrize("given", [{}, {"fields": ["card", "customer.email"]}, {"headers": ("x.y.",), "fields": []}])
def test_a_mask(settings, given):
    settings.TKCONS = {"MASK": given}
    assert checks.check_mask(None) == []


@pytest.mark.parametrize(
    "option", ["session.timeout.ms", "heartbeat.interval.ms", "partition.assignment.strategy", "group.protocol.type"]
)
def test_an_option_that_the_protocol_does_not_know(settings, option):
    settings.KAFKA_CLIENT = {option: "range" if "strategy" in option else "consumer" if "type" in option else 6000}
    assert checks.check_protocol(None) == []
    Consumer(client_config(options.member("g", ""))).close()
    settings.TKCONS = {"PROTOCOL": "consumer"}
    assert ids(checks.check_protocol(None)) == ["tkcons.E008"]
    with pytest.raises(KafkaException):  # as the check says
        Consumer(client_config(options.member("g", "")))


@pytest.mark.parametrize(
    "sink",
    [
        None,
        "tkcons.sinks.DatabaseSink",
        {"class": "tkcons.sinks.DatabaseSink"},
        {"topics": ["orders"]},
        {**DATABASE, "class": "tkcons.sinks.NoSuchSink"},
        {**DATABASE, "class": "no.such.module"},
        {**DATABASE, "class": "tkcons.models.Message"},
        {**DATABASE, "topics": "orders"},
        {**DATABASE, "topics": []},
        {**DATABASE, "topics": ["a/b"]},
        {**DATABASE, "topics": [None]},
        {**DATABASE, "usin": "default"},
        FILE,  # no path
        {**FILE, "path": "{host}.txt"},
    ],
)
def test_a_sink_that_cannot_be_made(settings, sink):
    settings.TKCONS = {"SINKS": {"one": sink}}
    assert ids(checks.check_sinks(None)) == ["tkcons.E002"]


def test_two_sinks_under_one_group(settings):
    settings.TKCONS = {"SINKS": {"one": {**DATABASE, "group": "g"}, "two": {**DATABASE, "group": "g"}}}
    assert ids(checks.check_sinks(None)) == ["tkcons.E003"]


@pytest.mark.parametrize("kind", ["STATIC_ROOT", "MEDIA_ROOT", "STATICFILES_DIRS", "prefix"])
def test_messages_are_not_written_where_files_are_served(settings, tmp_path, kind):
    if kind == "prefix":
        settings.STATICFILES_DIRS = [("tutorial", str(tmp_path))]
    else:
        setattr(settings, kind, [tmp_path] if kind == "STATICFILES_DIRS" else str(tmp_path))
    settings.TKCONS = {"SINKS": {"file": {**FILE, "path": tmp_path / "deep" / "messages.txt"}}}
    assert ids(checks.check_sinks(None)) == ["tkcons.E004"]
    settings.TKCONS = {"SINKS": {"file": {**FILE, "path": tmp_path.parent / "messages.txt"}}}
    assert checks.check_sinks(None) == []


@pytest.mark.parametrize("engine", ["django.db.backends.mysql", "django.db.backends.oracle"])
def test_an_unsupported_database(settings, monkeypatch, engine):
    monkeypatch.setitem(django_settings.DATABASES, "other", {"ENGINE": engine})
    settings.TKCONS = {"SINKS": {"one": {**DATABASE, "using": "other"}}}
    assert ids(checks.check_databases(None)) == ["tkcons.E006"]


def test_an_unknown_alias(settings):
    settings.TKCONS = {"SINKS": {"one": {**DATABASE, "using": "nowhere"}}}
    assert ids(checks.check_databases(None)) == ["tkcons.E006"]


@pytest.mark.parametrize(
    ("missing", "said"), [("transaction_mode", "IMMEDIATE"), ("timeout", "timeout"), ("init_command", "WAL")]
)
def test_sqlite_that_does_not_wait_its_turn(settings, monkeypatch, missing, said):
    whole = {"transaction_mode": "IMMEDIATE", "timeout": 20, "init_command": "PRAGMA journal_mode=WAL;"}
    other = {"ENGINE": "django.db.backends.sqlite3", "OPTIONS": {**whole, missing: 1 if missing == "timeout" else ""}}
    monkeypatch.setitem(django_settings.DATABASES, "other", other)
    settings.TKCONS = {"SINKS": {"one": {**DATABASE, "using": "other"}}}
    (found,) = checks.check_databases(None)
    assert found.id == "tkcons.W007"
    assert said in found.hint


def test_connections_that_outlive_requests_under_asgi(settings, monkeypatch):
    assert checks.check_persistent_connections(None) == []
    monkeypatch.setitem(django_settings.DATABASES["default"], "CONN_MAX_AGE", None)
    assert ids(checks.check_persistent_connections(None)) == ["tkcons.W010"]
    settings.ASGI_APPLICATION = None
    assert checks.check_persistent_connections(None) == []
