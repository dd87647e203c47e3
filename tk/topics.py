"""What the cluster says of its topics, believed for METADATA_SECONDS; a topic is never made by asking for it."""

import math
import os
import threading
import time

import msgspec
from confluent_kafka import KafkaError, KafkaException, TopicCollection
from confluent_kafka.admin import AdminClient
from django.core.signals import setting_changed
from django.utils.translation import gettext_noop as _

from tk.client import client_config
from tk.conf import settings
from tk.errors import NotSent, UnknownTopic

ASK_SECONDS = 2.0  # how long one question may take: less than what REQUEST_TIMEOUT leaves over DELIVERY_TIMEOUT
REST_SECONDS = 1.0  # how long a failed question or a missing topic is believed


class Topic(msgspec.Struct, frozen=True):
    """A topic: its name, Kafka's id of it (a topic made again under the name has another), its number of partitions."""

    name: str
    id: str
    partitions: int


class Metadata:
    """A process's view of the cluster. Thread-safe; one question is asked at a time, the others wait for its answer."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._admin: AdminClient | None = None
        self._pid = 0
        self._known: dict[str, tuple[float, Topic | None]] = {}
        self._down_until = 0.0

    def forget(self) -> None:
        """Believe nothing any more: the next look asks the cluster. Called when the connection broke."""
        self._known.clear()

    def reset(self) -> None:
        """Leave this cluster: other settings hold."""
        with self._lock:
            self._admin = None
            self._known.clear()
            self._down_until = 0.0

    def get(self, name: str, fresh: float | None = None) -> Topic:
        """The topic, at most `fresh` seconds old (default METADATA_SECONDS).

        Raises UnknownTopic, or NotSent when the cluster does not answer.
        """
        entry = self._known.get(name)
        now = time.monotonic()
        age = settings.METADATA_SECONDS if fresh is None else fresh
        if entry is None or now - entry[0] > (min(age, REST_SECONDS) if entry[1] is None else age):
            entry = self._ask(name, now)
        if entry[1] is None:
            raise UnknownTopic(_("The broker has no topic %(topic)r: create it first."), topic=name)
        return entry[1]

    def known(self, name: str) -> tuple[float, Topic | None]:
        """The topic and the seconds since the cluster told of it; infinite where it is not known. Asks nobody."""
        entry = self._known.get(name)
        if entry is None or entry[1] is None:
            return math.inf, None
        return time.monotonic() - entry[0], entry[1]

    def _ask(self, name: str, since: float) -> tuple[float, Topic | None]:
        with self._lock:
            entry = self._known.get(name)
            if entry is not None and entry[0] >= since:
                return entry  # somebody else asked while this thread waited
            if time.monotonic() < self._down_until:
                raise NotSent
            try:
                topic = self._describe(name)
            except KafkaException as error:
                self._down_until = time.monotonic() + REST_SECONDS
                raise NotSent(_("Kafka does not answer (%(error)s): try again."), error=error.args[0].str()) from error
            self._known[name] = entry = (time.monotonic(), topic)
            return entry

    def _describe(self, name: str) -> Topic | None:
        # DescribeTopics and not a producer's metadata request, which makes the topic where the broker allows it.
        future = self._client().describe_topics(TopicCollection([name]), request_timeout=ASK_SECONDS)[name]
        try:
            seen = future.result()
        except KafkaException as error:
            if error.args[0].code() in {KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError.UNKNOWN_TOPIC_ID}:
                return None
            raise
        return Topic(name, str(seen.topic_id), len(seen.partitions))

    def _client(self) -> AdminClient:
        if self._admin is None or self._pid != os.getpid():  # a client from before a fork is dead
            self._admin, self._pid = AdminClient(client_config()), os.getpid()
        return self._admin

    def client(self) -> AdminClient:
        """This process's client for questions to the cluster; thread-safe."""
        with self._lock:
            return self._client()

    def ping(self) -> None:
        """Raise NotSent unless the cluster answers within ASK_SECONDS."""
        try:
            self.client().describe_cluster(request_timeout=ASK_SECONDS).result()
        except KafkaException as error:
            raise NotSent(f"Kafka does not answer ({error.args[0].str()}).") from error


metadata = Metadata()
get = metadata.get
ping = metadata.ping
client = metadata.client


def _on_setting(setting: str, **kwargs: object) -> None:
    if setting in {"KAFKA_BROKER_URL", "KAFKA_CLIENT"}:
        metadata.reset()


def _after_fork() -> None:
    # Another thread of the parent may have held the lock.
    metadata._lock = threading.Lock()


os.register_at_fork(after_in_child=_after_fork)
setting_changed.connect(_on_setting, dispatch_uid="tk.topics")
