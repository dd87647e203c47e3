"""Prometheus' figures of a process that consumes: what it has stored, what is left, what failed."""

import urllib.request

import pytest
from prometheus_client import REGISTRY
from prometheus_client.parser import text_string_to_metric_families

from tests.acceptance.newcomer import free_port
from tests.integration.consuming import QUICK, database, running, values
from tests.integration.test_consume_command import consuming
from tests.waiting import eventually
from tkcons import handler, handlers, metrics
from tkcons.errors import SinkUnavailable
from tkcons.groups import spec
from tkcons.models import DeadLetter, Message
from tkcons.sinks import DatabaseSink

pytestmark = [pytest.mark.kafka, pytest.mark.django_db(transaction=True)]


@pytest.fixture(autouse=True)
def _settings(settings, broker):
    settings.TKCONS = QUICK


def figure(name: str, group: str, **labels: str) -> float | None:
    return REGISTRY.get_sample_value(name, {"group": group, **labels})


def test_what_is_stored_what_failed_and_what_is_left(send, topic, group, client, monkeypatch):
    real, down = DatabaseSink.write, [True, True]

    def write(self, batches):
        if down:
            down.pop()
            raise SinkUnavailable("not now")
        real(self, batches)

    monkeypatch.setattr(DatabaseSink, "write", write)
    send(topic, *range(10))
    with running(database(group, topic)):
        eventually(lambda: figure("tkcons_records_total", group) == 10)
        assert figure("tkcons_failed_writes_total", group) == 2
        assert figure("tkcons_write_seconds_count", group) >= 1
        eventually(lambda: figure("tkcons_lag", group, topic=topic, partition="0") == 0)
        assert f'tkcons_records_total{{group="{group}"}} 10.0' in client.get("/metrics").content.decode()
    assert values(group) == [str(number) for number in range(10)]
    assert figure("tkcons_lag", group, topic=topic, partition="0") is None  # it holds nothing any more


def test_a_dead_letter_is_counted_and_what_came_before_it(send, topic, group, monkeypatch):
    monkeypatch.setattr(handlers, "registry", handlers.registry.copy())
    monkeypatch.setattr("tkcons.groups.registry", handlers.registry)

    @handler(topic, group=group, tries=2, pauses=(0.05, 0.1))
    def poison(message):
        if message.offset == 2:
            raise ValueError("poison")

    send(topic, *range(5))
    with running(spec(group)):
        eventually(lambda: figure("tkcons_records_total", group) == 5)
    assert figure("tkcons_dead_letters_total", group) == DeadLetter.objects.filter(group=group).count() == 1
    assert figure("tkcons_failed_writes_total", group) == 1


def test_labels_are_bounded(monkeypatch):
    monkeypatch.setattr(metrics, "LABELLED", 2)
    rows = [{"topic": "t", "partition": number, "lag": number} for number in range(5)]
    rows.append({"topic": "t", "partition": 9, "lag": None})
    metrics.watch("bounded", lambda: rows)
    try:
        assert metrics.lags() == {
            ("bounded", "t", "0"): 0,
            ("bounded", "t", "1"): 1,
            ("bounded", "t", "other"): 2 + 3 + 4,
        }
    finally:
        metrics.forget("bounded")


def test_consume_serves_them(send, broker, topic):
    port = free_port()
    send(topic, *range(7))
    with consuming(broker, topic, "--metrics-port", str(port)):
        eventually(lambda: Message.objects.count() == 7, 60)

        def lag() -> dict[str, str] | None:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
                text = answer.read().decode()
            assert 'tkcons_records_total{group="tkcons.database"} 7.0' in text
            samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
            return next((sample.labels for sample in samples if sample.name == "tkcons_lag"), None)

        assert eventually(lag) == {"group": "tkcons.database", "topic": topic, "partition": "0"}
