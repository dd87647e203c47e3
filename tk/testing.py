"""For the tests of a project: Kafka in memory, with the checks, the errors and the receipts of the real one.

    class OrderTest(KafkaTestMixin, TestCase):
        def test_an_order_is_told(self):
            place_order()
            self.assertProduced("orders", {"id": 1}, key="1")

With pytest: the fixture `kafka_outbox` (the plugin tk.pytest_plugin, which is found by itself).
"""

import threading
import time
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, Self
from unittest import mock

import msgspec
from confluent_kafka import TIMESTAMP_CREATE_TIME, KafkaError
from confluent_kafka import Message as KafkaMessage

from tk import errors, outbox, producer, topics
from tk.errors import TkError
from tk.models import OutboxEvent
from tk.record import Headers, load_headers
from tk.serializers import serialize

# What librdkafka would have said, so that the errors' way through tk is the real one.
_CODES: dict[type[TkError], int] = {
    errors.BrokerRefused: KafkaError.POLICY_VIOLATION,
    errors.InvalidTimestamp: KafkaError.INVALID_TIMESTAMP,
    errors.NotSent: KafkaError._UNKNOWN_PARTITION,
    errors.OutcomeUnknown: KafkaError._MSG_TIMED_OUT,
    errors.TooLarge: KafkaError.MSG_SIZE_TOO_LARGE,
    errors.UnknownTopic: KafkaError.UNKNOWN_TOPIC_OR_PART,
}
ANY = mock.ANY


class Message(msgspec.Struct, frozen=True):
    """What was produced or published. event_id: of a published one, text."""

    topic: str
    value: bytes | None
    key: bytes | None = None
    headers: Headers = ()
    partition: int | None = None
    timestamp: int | None = None
    event_id: str | None = None
    database: str | None = None  # the alias it was published in; None: produced

    def json(self) -> Any:
        """The value, read as JSON."""
        return msgspec.json.decode(self.value or b"null")


class KafkaOutbox:
    """Stands in for Kafka from `with` to its end: nothing is sent to a broker.

    topics: names and numbers of partitions of the topics that exist; None: every one, with one partition.
    """

    def __init__(self, topics: Mapping[str, int] | None = None) -> None:
        self.topics = topics
        self.error: type[TkError] | None = None
        self._all: list[Message] = []
        self._lock = threading.Lock()
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        metadata = _Metadata(self)
        producer.close(1)  # a real one, of before
        enter = self._stack.enter_context
        enter(mock.patch.object(producer, "Client", side_effect=lambda config: _Client(self)))
        self._stack.callback(producer.close, 1)
        for name, value in {"metadata": metadata, "get": metadata.get, "ping": metadata.ping}.items():
            enter(mock.patch.object(topics, name, value))
        enter(mock.patch.object(outbox, "_ordered", self._noting(outbox._ordered)))
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    @property
    def messages(self) -> list[Message]:
        """Everything produced, and everything published in a transaction that has not been rolled back, in order."""
        there: set[tuple[str | None, str | None]] = {(None, None)}
        for alias in {message.database for message in self._all if message.database is not None}:
            ids = [message.event_id or "" for message in self._all if message.database == alias]
            rows = OutboxEvent.objects.using(alias).filter(event_id__in=ids)
            there |= {(alias, str(event_id)) for event_id in rows.values_list("event_id", flat=True)}
        return [message for message in self._all if (message.database, message.event_id) in there]

    def clear(self) -> None:
        self._all.clear()

    @contextmanager
    def failing(self, error: type[TkError]) -> Iterator[None]:
        """Producing fails with this error: NotSent, QueueFull, OutcomeUnknown, BrokerRefused, TooLarge, UnknownTopic or
        InvalidTimestamp. Publishing asks no broker and goes on."""
        if error is not errors.QueueFull and error not in _CODES:
            raise ValueError(f"{error.__name__} is not the broker's.")
        self.error = error
        try:
            yield
        finally:
            self.error = None

    def assertProduced(  # noqa: N802  as unittest has it
        self, topic: str, value: Any = ANY, *, key: Any = ANY, headers: Any = ANY, count: int | None = None
    ) -> list[Message]:
        """Fail unless messages like this were produced or published (exactly `count`, if it is given); give them.

        value: as produce() takes it; JSON is compared as what it says, not as it is written. headers: a dict of some.
        """
        found = [m for m in self.messages if m.topic == topic and _like(m, value, key, headers)]
        if not found if count is None else len(found) != count:
            there = "\n".join(
                f"  {m.topic} key={m.key!r} value={m.value!r} headers={m.headers!r}" for m in self.messages
            )
            wanted = "none" if count is None else f"{len(found)}, not {count},"
            raise AssertionError(f"{wanted} of these is such a message:\n{there or '  nothing at all'}")
        return found

    def assertNothingProduced(self) -> None:  # noqa: N802
        """Fail if anything was produced or published."""
        assert not self.messages, self.messages  # noqa: S101

    def partitions(self, topic: str) -> int | None:
        return 1 if self.topics is None else self.topics.get(topic)

    def take(self, message: Message) -> int:
        """Note a produced message; give its offset."""
        with self._lock:
            place = (message.topic, message.partition)
            offset = sum((m.topic, m.partition) == place for m in self._all if m.database is None)
            self._all.append(message)
        return offset

    def drop(self, gone: Sequence[Message]) -> None:
        with self._lock:
            self._all = [message for message in self._all if not any(message is other for other in gone)]

    def _noting(self, ordered: Any) -> Any:
        @contextmanager
        def noting(alias: str, events: list[OutboxEvent]) -> Iterator[None]:
            with ordered(alias, events):
                yield
            with self._lock:
                self._all += [
                    Message(
                        event.topic,
                        _bytes(event.value),
                        _bytes(event.key),
                        load_headers(event.headers),
                        event.partition,
                        event.timestamp,
                        str(event.event_id),
                        alias,
                    )
                    for event in events
                ]

        return noting


class KafkaTestMixin:
    """For Django's TestCase and TransactionTestCase: `self.kafka_outbox`, a new one for each test."""

    def setUp(self) -> None:
        super().setUp()  # type: ignore[misc]
        self.kafka_outbox: KafkaOutbox = self.enterContext(KafkaOutbox())  # type: ignore[attr-defined]

    def assertProduced(self, topic: str, value: Any = ANY, **more: Any) -> list[Message]:  # noqa: N802
        return self.kafka_outbox.assertProduced(topic, value, **more)

    def assertNothingProduced(self) -> None:  # noqa: N802
        self.kafka_outbox.assertNothingProduced()


def _bytes(data: Any) -> bytes | None:
    return None if data is None else data.encode() if isinstance(data, str) else bytes(data)


def _like(message: Message, value: Any, key: Any, headers: Any) -> bool:
    if key is not ANY and message.key != (key.encode() if isinstance(key, str) else key):
        return False
    if headers is not ANY:
        wanted = {(name, text.encode() if isinstance(text, str) else text) for name, text in headers.items()}
        if not wanted <= set(message.headers):
            return False
    if value is ANY:
        return True
    data = serialize(value, message.topic)
    if data == message.value:
        return True
    if data is None or message.value is None or isinstance(value, str | bytes):
        return False
    try:
        return bool(msgspec.json.decode(data) == message.json())
    except msgspec.DecodeError:
        return False


class _Metadata(topics.Metadata):
    """The process's view of a cluster that has the fake's topics."""

    def __init__(self, fake: KafkaOutbox) -> None:
        super().__init__()
        self._fake = fake

    def _describe(self, name: str) -> topics.Topic | None:
        partitions = self._fake.partitions(name)
        return None if partitions is None else topics.Topic(name, f"fake-{name}", partitions)

    def ping(self) -> None:
        return


class _Client:
    """As much of confluent_kafka's Producer as tk uses; messages are acknowledged at once."""

    def __init__(self, fake: KafkaOutbox) -> None:
        self._fake = fake
        self._transaction: list[Message] | None = None

    def produce(
        self,
        topic: str,
        value: bytes | str | None = None,
        key: bytes | str | None = None,
        partition: int = -1,
        callback: Any = None,
        on_delivery: Any = None,
        timestamp: int = 0,
        headers: Any = None,
    ) -> None:
        on_delivery = on_delivery or callback
        value, key = _bytes(value), _bytes(key)
        if self._fake.error is errors.QueueFull:
            raise BufferError("Local: Queue full")
        if partition < 0:  # as librdkafka's default partitioner
            partition = zlib.crc32(key) % (self._fake.partitions(topic) or 1) if key else 0
        if self._fake.error is not None:
            on_delivery(KafkaError(_CODES[self._fake.error]), _message(topic, partition, -1001, timestamp))
            return
        pairs = headers.items() if isinstance(headers, dict) else headers or ()
        named = tuple((name, _bytes(each)) for name, each in pairs)
        message = Message(topic, value, key, named, partition, timestamp or int(time.time() * 1000))
        offset = self._fake.take(message)
        if self._transaction is not None:
            self._transaction.append(message)
        if on_delivery is not None:
            on_delivery(None, _message(topic, partition, offset, message.timestamp or 0))

    def produce_batch(self, topic: str, messages: Sequence[dict[str, Any]], on_delivery: Any = None) -> int:
        for number, each in enumerate(messages):
            try:
                self.produce(topic, **{"callback": on_delivery, **each})
            except BufferError:
                for rest in messages[number:]:
                    rest["_error"] = KafkaError(KafkaError._QUEUE_FULL)
                return number
        return len(messages)

    def poll(self, seconds: float) -> int:
        time.sleep(min(seconds, 0.01))  # nothing is under way; the poller ends soon
        return 0

    def flush(self, seconds: float = 0) -> int:
        return 0

    def purge(self) -> None:
        return

    def __len__(self) -> int:
        return 0

    def init_transactions(self, *_: object) -> None:
        return

    def begin_transaction(self) -> None:
        self._transaction = []

    def commit_transaction(self, *_: object) -> None:
        self._transaction = None

    def abort_transaction(self, *_: object) -> None:
        self._fake.drop(self._transaction or ())
        self._transaction = None


def _message(topic: str, partition: int, offset: int, timestamp: int) -> KafkaMessage:
    return KafkaMessage(topic=topic, partition=partition, offset=offset, timestamp=(TIMESTAMP_CREATE_TIME, timestamp))
