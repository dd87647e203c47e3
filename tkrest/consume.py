"""One consumer instance: a Kafka consumer that requests use in turn, and what it has fetched and not yet given.

Nothing is skipped: what does not fit into an answer stays for the next. Nothing is committed before the client was seen
to come back after the answer that held it, or says so itself.
"""

import logging
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from tk import topics
from tk.errors import NotSent, TkError, UnknownTopic
from tkrest.client import ANSWER_SECONDS, AT_ONCE, Client, Options, take_off
from tkrest.errors import NO_TOPIC, IllegalState, InstanceNotFound, KafkaFailed, RestError, of_kafka
from tkrest.fetched import Fetched, Name

logger = logging.getLogger(__name__)

BEGIN_SECONDS = 1.0  # how long one question of where to begin may take; it is repeated until it has an answer
WAIT_SECONDS = 0.25  # one wait for records: a read that shall end looks so often
CALLBACK_SECONDS = 0.01  # a wait for librdkafka's callbacks, which a wait for records does not end with

_NO_OFFSET = {KafkaError._AUTO_OFFSET_RESET, KafkaError.OFFSET_OUT_OF_RANGE}


class Instance:
    """A consumer instance. Its methods may be called by any thread; they take turns."""

    def __init__(self, group: str, name: str, owner: object, options: Options) -> None:
        self.group, self.name, self.owner, self.options = group, name, owner, options
        self.topics: tuple[str, ...] = ()
        self.pattern: str | None = None
        self.looked_at = 0.0  # when the pattern was compared with the cluster's topics
        self.used_at = time.monotonic()
        self._turn = threading.Lock()
        self._closing = False
        self.settled = threading.Event()  # what was committed before its end has the broker's answer
        self._by_hand = False  # the client assigned the partitions itself
        self._fetched = Fetched()
        self._paused = False
        self._problem: RestError | TkError | None = None
        self._down = False
        self._client = self._open()

    def _open(self) -> Client:
        return Client(self.group, self.options, self._on_error)

    @property
    def _consumer(self) -> Consumer:
        return self._client.consumer

    def _renew(self) -> None:
        """Go on with a new consumer, which knows nothing of what was chosen before.

        One that had a subscription takes no assign() any more, and its last callbacks come at any time.
        """
        old = self._consumer
        self._client = self._open()
        # On a thread of its own: leaving the group may wait for a broker that is down.
        closing = threading.Thread(target=old.close, name="tkrest-renew", daemon=True)
        closing.start()
        closing.join(ANSWER_SECONDS)  # what was committed last is there for the next choice

    @contextmanager
    def turn(self, seconds: float = ANSWER_SECONDS) -> Iterator[None]:
        """Wait for this instance's other requests. Raises IllegalState after `seconds`, InstanceNotFound when it is gone."""
        self.used_at = time.monotonic()
        if not self._turn.acquire(timeout=seconds):
            raise IllegalState("Another request uses this consumer instance: send one after the other.")
        try:
            if self._closing:
                raise InstanceNotFound
            yield
        except KafkaException as error:
            raise of_kafka(error.args[0]) from error
        finally:
            self.used_at = time.monotonic()
            self._turn.release()

    # Which records.

    def subscribe(self, names: Iterable[str], pattern: str | None = None) -> None:
        """Share these topics with the group. Raises IllegalState where partitions are assigned by hand."""
        if self._by_hand:
            raise IllegalState("Partitions are assigned to this instance: a subscription excludes them.")
        self.looked_at = time.monotonic()
        wanted = tuple(names)
        if wanted != self.topics:
            if wanted:
                self._leave()
                self.topics = wanted
                self._consumer.subscribe(
                    list(wanted), on_assign=self._on_assign, on_revoke=self._on_revoke, on_lost=self._on_revoke
                )
                self._fetched.drop(name for name in self._fetched.held if name[0] not in wanted)
            else:
                self.unsubscribe()
        self.pattern = pattern

    def unsubscribe(self) -> None:
        """Give up the subscription, or the partitions assigned by hand."""
        if self.topics or self._by_hand:
            self._leave()
            self._renew()
            self._fetched.drop(self._fetched.held)
        self.topics, self.pattern, self._by_hand = (), None, False

    def assign(self, partitions: Iterable[Name]) -> None:
        """Read these partitions, outside of the group's sharing. Raises IllegalState where there is a subscription."""
        if self.topics or self.pattern is not None:
            raise IllegalState("This instance has a subscription: it excludes partitions assigned by hand.")
        self._leave()
        self._fetched.drop(self._fetched.held)
        self._fetched.hold(partitions)
        self._consumer.assign([])
        self._by_hand = True
        self._begin(ANSWER_SECONDS)

    def assignment(self) -> list[Name]:
        """The partitions that are read now, sorted."""
        return sorted(self._fetched.held)

    def _leave(self) -> None:
        """Before other records are chosen: those given so far are the client's, and no pause is left behind."""
        self._confirm()
        self._resume()

    def _on_assign(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        if consumer is not self._consumer:  # one that was given up
            return
        self._fetched.hold((each.topic, each.partition) for each in partitions)
        consumer.incremental_assign([])  # each is put on when it is known where it begins

    def _on_revoke(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        if consumer is self._consumer:
            if self._paused:  # a pause outlives an assignment: it would come back with the partition
                consumer.resume(partitions)
            # What the last answer held is not committed: the client has not come back after it.
            self._fetched.drop((each.topic, each.partition) for each in partitions)
        take_off(consumer, partitions)

    def _begin(self, seconds: float) -> None:
        """Ask where the group is in the partitions that came to us, and go on there; without an answer the next look does.

        librdkafka would ask by itself, but once: where the group's coordinator has just moved, it is refused, and the
        partition stands still for ever (librdkafka#5586).
        """
        unbegun = self._fetched.unbegun
        if not unbegun or self._client.unanswered:  # the answer is to count what was committed just now
            return
        try:
            starts = self._client.starts(unbegun, self._fetched.lost, seconds)
        except (RestError, TkError) as problem:
            if not isinstance(problem, NotSent):
                self._problem = problem
            return
        unknown = min(unbegun - starts.keys(), default=None)
        self._problem = _no_offset(unknown, "the group has committed none") if unknown else None
        if starts:
            self._put_at(starts)

    def _put_at(self, offsets: dict[Name, int]) -> None:
        self._client.put_at(offsets)
        self._fetched.begin(offsets)

    # Records.

    def read(self, seconds: float, max_bytes: int) -> list[dict[str, Any]]:
        """Records for one answer: as soon as there are fetch_min_bytes, else what came within `seconds`.

        At most max_bytes of keys, values and headers, but one record at least; the others wait for the next read.
        Raises NotJson at a record that a json instance cannot give, UnknownTopic, IllegalState, NotSent.
        """
        self._confirm()
        deadline = time.monotonic() + seconds
        enough = max_bytes if self.options.fetch_min_bytes < 0 else min(self.options.fetch_min_bytes, max_bytes)
        found: list[dict[str, Any]] = []
        size, full = 0, False
        while not full:
            size, full = self._fetched.give(found, size, max_bytes, self.options.embedded)
            left = deadline - time.monotonic()
            if full or (found and size >= enough) or left <= 0 or self._closing:
                break
            self._poll(min(left, WAIT_SECONDS))
        if not found:
            self._complain()
        return found

    def _poll(self, seconds: float) -> None:
        self._begin(BEGIN_SECONDS)
        self._resume()
        if messages := self._consumer.consume(1, seconds):
            self._receive(messages + self._consumer.consume(AT_ONCE, 0))

    def _resume(self) -> None:
        if self._paused:
            self._consumer.resume(self._consumer.assignment())
            self._paused = False

    def _receive(self, messages: list[Message]) -> None:
        for message in messages:
            error = message.error()
            if error is None:
                self._fetched.add(message)
            else:
                self._note(message, error)
        self._down = self._down and not messages

    def _note(self, message: Message, error: KafkaError) -> None:
        if error.code() in _NO_OFFSET:
            self._lose((message.topic() or "", message.partition() or 0), error.str())
        elif error.code() in NO_TOPIC:
            self._problem = UnknownTopic(f"The broker has no topic {message.topic()!r}.")
        elif error.fatal():
            self._problem = KafkaFailed(f"Kafka error: {error.str()}")
        else:
            logger.warning("consumer", extra={"action": "rest", "group": self.group, "error": error.str()})

    def _lose(self, name: Name, why: str) -> None:
        if self.options.auto_offset_reset == "none":
            self._problem = _no_offset(name, why)
        else:
            self._fetched.lose(name)

    def _complain(self) -> None:
        """Nothing came: say why, where it is known."""
        problem, self._problem = self._problem, None
        if problem is not None:
            raise problem
        if self._down:
            topics.ping()
            self._down = False

    def _on_error(self, error: KafkaError) -> None:
        if error.code() == KafkaError._ALL_BROKERS_DOWN:
            self._down = True

    # Offsets.

    def commit(self, offsets: list[TopicPartition] | None = None, *, wait: bool = True) -> None:
        """Commit these offsets, or those after everything given. Raises NotSent, KafkaFailed or IllegalState."""
        if offsets is None:
            offsets = self._fetched.uncommitted()
        if not offsets:
            return
        self._client.commit(offsets)
        if wait:
            self._wait_for_commit()
        self._fetched.committed(offsets)

    def _wait_for_commit(self) -> None:
        deadline = time.monotonic() + ANSWER_SECONDS
        while self._client.unanswered:
            if time.monotonic() > deadline:
                raise NotSent("Kafka does not answer: the offsets may not be committed.")
            self._tend(CALLBACK_SECONDS)
        if self._client.refusal is not None:
            raise of_kafka(self._client.refusal)

    def _confirm(self) -> None:
        """The client has come back: with auto.commit.enable that commits what the last answer held."""
        if self.options.auto_commit:
            self.commit(wait=False)

    def committed(self, names: Iterable[Name]) -> list[TopicPartition]:
        """The group's committed offsets in these partitions, where there are some."""
        return list(self._client.committed(names).values())

    def seek(self, offsets: dict[Name, int]) -> None:
        """Go on from these offsets. Raises IllegalState for a partition that is not assigned."""
        missing = sorted(offsets.keys() - self._fetched.held)
        if missing:
            raise IllegalState(f"{missing[0][0]}[{missing[0][1]}] is not assigned to this instance (now).")
        self._fetched.drop(offsets)
        self._fetched.hold(offsets)
        self._problem = None
        self._put_at(offsets)

    def watermarks(self, name: Name) -> tuple[int, int]:
        """The partition's first offset and the one after its last. Raises NotSent."""
        return self._client.watermarks(name)

    # Between requests.

    def tend(self) -> None:
        """Answer the group's rebalances and keep the membership, while no request does."""
        if not self.topics or not self._turn.acquire(blocking=False):
            return
        try:
            if not self._closing:
                self._begin(BEGIN_SECONDS)
                self._tend(0)
        except KafkaException as error:
            logger.warning("consumer", extra={"action": "rest", "group": self.group, "error": str(error)})
        finally:
            self._turn.release()

    def _tend(self, seconds: float) -> None:
        """Serve librdkafka's callbacks. A record that comes meanwhile waits; no second one is taken in."""
        if self._fetched.waiting:
            self._consumer.pause(self._consumer.assignment())
            self._paused = True
        self._receive(self._consumer.consume(1, seconds))

    def close(self, *, confirmed: bool) -> None:
        """Leave the group; `confirmed`: the client asked for it, so what it was given may be committed."""
        self._closing = True  # a read that is under way ends
        with self._turn:
            if confirmed:
                try:
                    self._confirm()
                    self._wait_for_commit()
                except (KafkaException, RestError, TkError) as error:
                    logger.info("not committed", extra={"action": "rest", "group": self.group, "error": str(error)})
            self.settled.set()
            self._fetched.clear()
            self._consumer.close()


def _no_offset(name: Name, why: str) -> IllegalState:
    return IllegalState(
        f"There is no offset to begin at in {name[0]}[{name[1]}] ({why}): choose one by POST .../positions."
    )
