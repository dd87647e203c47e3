"""OpenTelemetry's traces, while TK["TRACING"] is on and opentelemetry-api is installed (the extra `otel`).

A record carries W3C's traceparent in its headers: https://www.w3.org/TR/trace-context/. Names and attributes are those of
https://opentelemetry.io/docs/specs/semconv/messaging/kafka/. What collects the spans is the project's to set up.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import msgspec

from tk.conf import settings
from tk.errors import TkError
from tk.record import Receipt, Record

if TYPE_CHECKING:
    from tk.producer import Done

installed = False
try:
    from opentelemetry import propagate, trace
    from opentelemetry.trace import SpanKind, StatusCode
except ImportError:  # traces are an extra
    pass
else:
    installed = True

LINKS = 128  # of a batch: as many as OpenTelemetry's own limit


def on() -> bool:
    """Whether spans are made."""
    return installed and settings.TRACING


@contextmanager
def sending(record: Record, done: "Done") -> Iterator[tuple[Record, "Done"]]:
    """A span from here to the acknowledgement: gives the record with the span in its headers, and what to call then.

    It belongs to the span that is open here, else to the one that the record's headers name.
    """
    context = (
        None if trace.get_current_span().get_span_context().is_valid else propagate.extract(_carrier(record.headers))
    )
    attributes: dict[str, Any] = {
        "messaging.system": "kafka",
        "messaging.operation.name": "send",
        "messaging.operation.type": "send",
        "messaging.destination.name": record.topic,
        "messaging.message.body.size": len(record.value or b""),
    }
    span = trace.get_tracer("tk").start_span(f"send {record.topic}", context, SpanKind.PRODUCER, attributes)

    def finished(outcome: Receipt | TkError) -> None:
        if isinstance(outcome, Receipt):
            span.set_attribute("messaging.destination.partition.id", str(outcome.partition))
            span.set_attribute("messaging.kafka.offset", outcome.offset)
        else:
            _fail(span, outcome)
        span.end()
        done(outcome)

    try:
        yield _carrying(record, trace.set_span_in_context(span)), finished
    except TkError as error:
        _fail(span, error)
        span.end()
        raise


def carry(record: Record) -> Record:
    """The record with the open span in its headers, for a message that is sent later; as it is while tracing is off."""
    return _carrying(record, None) if on() else record


@contextmanager
def processing(group: str, batches: Sequence[tuple[str, Sequence[Any]]]) -> Iterator[None]:
    """A span around the storing or handling of Kafka's messages, given as topics with theirs.

    One message: the span goes on with its trace. Several: it is linked to the first LINKS of theirs.
    """
    if not on():
        yield
        return
    topics = sorted({topic for topic, _ in batches})
    count = sum(len(messages) for _, messages in batches)
    first = [message for _, messages in batches for message in messages[:LINKS]][:LINKS]
    contexts = [propagate.extract(_carrier(message.headers() or ())) for message in first]
    origins = [trace.get_current_span(context).get_span_context() for context in contexts]
    attributes: dict[str, Any] = {
        "messaging.system": "kafka",
        "messaging.operation.name": "process",
        "messaging.operation.type": "process",
        "messaging.destination.name": ",".join(topics),
        "messaging.consumer.group.name": group,
        "messaging.batch.message_count": count,
    }
    with trace.get_tracer("tkcons").start_as_current_span(
        f"process {','.join(topics)}",
        contexts[0] if count == 1 else None,
        SpanKind.CONSUMER,
        attributes,
        [trace.Link(origin) for origin in origins if origin.is_valid],
    ):
        yield


def _carrier(headers: Sequence[tuple[str, bytes | None]]) -> dict[str, str]:
    return {name.lower(): value.decode("latin-1") for name, value in headers if value is not None}


def _carrying(record: Record, context: Any) -> Record:
    carrier: dict[str, str] = {}
    propagate.inject(carrier, context)
    others = tuple(pair for pair in record.headers if pair[0].lower() not in carrier)
    return msgspec.structs.replace(
        record, headers=(*others, *((name, text.encode()) for name, text in carrier.items()))
    )


def _fail(span: Any, error: TkError) -> None:
    span.set_attribute("error.type", error.code)
    span.set_status(StatusCode.ERROR, str(error))
