"""The settings dict TK, its defaults, and the reader that the other apps use for theirs."""

from collections.abc import Mapping
from typing import Any

from django.conf import settings as django_settings
from django.core.signals import setting_changed

DEFAULTS: dict[str, Any] = {
    # The topic of a message that names none.
    "TOPIC": "sample-topic",
    # Topics that HTTP requests may name, as patterns of fnmatch: ["orders.*"]; None: TOPIC alone, while DEBUG is on any.
    # Django code is not bound by it.
    "TOPICS": None,
    # Whether GET /tkprod produces, as the tutorial's does; None: while DEBUG is on.
    "GET_PRODUCES": None,
    # Bytes. The value's limit agrees with the broker's message.max.bytes, which also counts key and headers.
    "MAX_VALUE_BYTES": 1_048_576,
    "MAX_KEY_BYTES": 32_768,
    "MAX_HEADERS_BYTES": 16_384,
    # The URL name of the page that shows a message by topic, partition and offset, for the Link in JSON answers; a project
    # without such a page gives no link.
    "FOLLOW": "tkcons:message",
    # One request with many records: bytes and records at most, and bytes of an atomic one, which is laid down on disk first.
    "MAX_BATCH_BYTES": 1 << 30,
    "MAX_BATCH_RECORDS": 10_000_000,
    "MAX_ATOMIC_BYTES": 64 << 20,
    # Atomic batches at a time in a process: each has a transactional producer.
    "TRANSACTIONS": 4,
    # Seconds from a request's arrival to its answer, and for its body to arrive; librdkafka's delivery timeout is within it.
    "REQUEST_TIMEOUT": 10.0,
    # Seconds after which an unacknowledged message is given up; less than REQUEST_TIMEOUT.
    "DELIVERY_TIMEOUT": 8.0,
    # Milliseconds that the producer waits for company; 1 suits single messages.
    "LINGER_MS": 1,
    # The producer's queue: messages and KiB. A full queue answers 503 at once.
    "QUEUE_MESSAGES": 100_000,
    "QUEUE_KIB": 262_144,
    # Seconds for which topic metadata is believed.
    "METADATA_SECONDS": 5.0,
    # Seconds for which a token's check is believed; a revocation takes effect within it.
    "TOKEN_SECONDS": 5.0,
    # Seconds for which a request with an Idempotency-Key is remembered; longer than REQUEST_TIMEOUT, and no longer than
    # consumers remember event ids (TKCONS["EVENT_DAYS"]).
    "IDEMPOTENCY_SECONDS": 86_400,
    # Whether spans are made for OpenTelemetry and records carry W3C's traceparent; needs the extra `otel`.
    "TRACING": False,
    # How values of topics are written, by patterns of fnmatch, the first that fits: {"orders.*": "shop.schemas.order"}, a
    # function of value and topic or its dotted path. Other topics: tk.serializers. Bytes are sent as they are.
    "SERIALIZERS": {},
    # The schema registry of tk.schemas: a URL, or the options of confluent_kafka's SchemaRegistryClient.
    "SCHEMA_REGISTRY": None,
    # The outbox. Whether messages of one key arrive in the order of commits on PostgreSQL, for which publish() takes an
    # advisory lock of the key until the transaction ends; off: in the order of inserts.
    "OUTBOX_COMMIT_ORDER": True,
    # Seconds that sent events are kept, to be looked up; 0: they are deleted when they are acknowledged.
    "OUTBOX_KEEP_SECONDS": 86_400,
    # Seconds between a relay's looks at the outbox; on PostgreSQL NOTIFY wakes it sooner.
    "OUTBOX_POLL_SECONDS": 0.2,
    # Seconds after which a dead relay's work is another's.
    "OUTBOX_LEASE_SECONDS": 10.0,
    # psycopg's conninfo of a direct connection for LISTEN, where the database is behind a pooler; None: the database's own.
    "OUTBOX_LISTEN": None,
}


class AppSettings:
    """Read access to one app's settings dict: ``settings.TOPIC`` is the project's value or the default.

    A value is looked up once and then is a plain attribute, until Django says that the setting has changed.
    """

    def __init__(self, name: str, defaults: Mapping[str, Any]) -> None:
        self.name = name
        self.defaults = defaults
        setting_changed.connect(self._forget)

    def __getattr__(self, name: str) -> Any:
        if name not in self.defaults:
            raise AttributeError(f"{self.name} has no setting {name!r}")
        value = getattr(django_settings, self.name, {}).get(name, self.defaults[name])
        setattr(self, name, value)
        return value

    def _forget(self, *, setting: str, **kwargs: object) -> None:
        if setting == self.name:
            for name in self.defaults:
                self.__dict__.pop(name, None)

    def unknown(self) -> list[str]:
        """Names in the project's dict that are no setting."""
        return sorted(set(getattr(django_settings, self.name, {})) - set(self.defaults))


settings = AppSettings("TK", DEFAULTS)
