"""OpenTelemetry: from the caller's span through Kafka to the consumer's, by the traceparent in the record's headers."""

import pytest
from django.db import transaction
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

import tk
from tests.integration.consuming import QUICK, database, running, values
from tests.waiting import eventually
from tk import errors, producer, tracing
from tk.models import OutboxEvent
from tk.record import load_headers

pytestmark = [pytest.mark.kafka, pytest.mark.django_db(transaction=True)]

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
TRACEPARENT = f"00-{TRACE}-00f067aa0ba902b7-01"


@pytest.fixture
def spans(monkeypatch, settings, broker) -> InMemorySpanExporter:
    """Where the spans go; the provider is this test's, for OpenTelemetry lets a process set only one."""
    settings.TK = {"TRACING": True}
    settings.TKCONS = QUICK
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(trace, "get_tracer", provider.get_tracer)
    return exporter


def found(spans: InMemorySpanExporter, kind: SpanKind) -> list:
    return [span for span in spans.get_finished_spans() if span.kind == kind]


def test_one_trace_from_the_caller_to_the_consumer(spans, read, topic, group):
    with trace.get_tracer("test").start_as_current_span("caller") as caller:
        tk.produce(topic, "hello", headers={"a": "b", "traceparent": "old"})
    (sent,) = eventually(lambda: found(spans, SpanKind.PRODUCER))
    assert sent.name == f"send {topic}"
    assert sent.parent.span_id == caller.get_span_context().span_id
    assert sent.attributes["messaging.destination.partition.id"] == "0"
    assert sent.attributes["messaging.kafka.offset"] == 0
    (message,) = read(topic)
    where = b"00-%032x-%016x-%02x" % (sent.context.trace_id, sent.context.span_id, sent.context.trace_flags)
    assert message.headers() == [("a", b"b"), ("traceparent", where)]
    with running(database(group, topic)):
        eventually(lambda: values(group) == ["hello"])
    (processed,) = found(spans, SpanKind.CONSUMER)
    assert processed.parent.span_id == sent.context.span_id
    assert processed.attributes["messaging.consumer.group.name"] == group


def test_a_batch_is_linked_to_the_traces_of_its_messages(spans, topic, group):
    for n in range(3):
        tk.produce(topic, str(n))
    sent = {span.context.span_id for span in eventually(lambda: found(spans, SpanKind.PRODUCER))}
    with running(database(group, topic)):
        eventually(lambda: len(values(group)) == 3)
    processed = found(spans, SpanKind.CONSUMER)
    assert {link.context.span_id for span in processed for link in span.links} == sent
    assert sum(span.attributes["messaging.batch.message_count"] for span in processed) == 3


def test_a_records_own_traceparent_is_gone_on_with(spans, topic):
    tk.produce(topic, "x", headers={"traceparent": TRACEPARENT})
    (sent,) = eventually(lambda: found(spans, SpanKind.PRODUCER))
    assert f"{sent.context.trace_id:032x}" == TRACE


def test_what_was_not_sent_is_an_error(spans, topic, monkeypatch):
    def full(*args: object) -> None:
        raise errors.QueueFull

    monkeypatch.setattr(producer.Producer, "_send", full)
    with pytest.raises(errors.QueueFull):
        tk.produce(topic, "x")
    (sent,) = found(spans, SpanKind.PRODUCER)
    assert (sent.status.status_code, sent.attributes["error.type"]) == (StatusCode.ERROR, "queue_full")


def test_the_outbox_carries_the_publishers_trace(spans, topic):
    with trace.get_tracer("test").start_as_current_span("caller") as caller, transaction.atomic():
        tk.publish(topic, "x")
    headers = dict(load_headers(OutboxEvent.objects.get().headers))
    assert f"{caller.get_span_context().trace_id:032x}".encode() in headers["traceparent"]


def test_nothing_is_added_while_it_is_off(spans, read, topic, settings):
    settings.TK = {}
    with trace.get_tracer("test").start_as_current_span("caller"):
        tk.produce(topic, "hello")
    assert read(topic)[0].headers() is None
    assert found(spans, SpanKind.PRODUCER) == []


def test_without_the_package_nothing_is_traced(settings, monkeypatch):
    settings.TK = {"TRACING": True}
    monkeypatch.setattr(tracing, "installed", False)
    assert not tracing.on()
