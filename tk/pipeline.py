"""Many records on their way at once: in order, a bounded number unacknowledged, an outcome for each."""

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import Any

from confluent_kafka import KafkaError, KafkaException, Message

from tk import producer, topics
from tk.conf import settings
from tk.errors import OutcomeUnknown, QueueFull, TkError
from tk.producer import Producer
from tk.record import Receipt, Record

WINDOW = 2_000  # records that are handed over together, at most
IN_FLIGHT = 8  # windows that wait for their acknowledgements; a window is what the source gives at once
PAUSE_SECONDS = 0.002

Item = Record | TkError  # an error is no record: it is its own outcome
Outcome = Receipt | TkError


def sending(
    windows: Iterable[Sequence[Item]], through: Producer | None = None, *, counting: bool = False
) -> Iterator["Flight"]:
    """Send checked records and give their outcomes, window by window, in order.

    A full queue is waited for. A record has DELIVERY_TIMEOUT from when it was handed over; where nothing moves for
    REQUEST_TIMEOUT, what was not handed over is QueueFull. through: another producer than the process's own. counting: no
    receipts are made, which takes half of the time.
    """
    flying: deque[Flight] = deque()
    for window in windows:
        flying.append(Flight(window, through, counting=counting))
        while flying and (flying[0].landed or len(flying) > IN_FLIGHT):
            yield flying.popleft().wait()
    while flying:
        yield flying.popleft().wait()


class Flight:
    """A window on its way: one object for all its records.

    size: of its records. errors: of those that failed. outcomes: of each, in order; none where they are only counted.
    """

    def __init__(self, items: Sequence[Item], through: Producer | None, *, counting: bool) -> None:
        self.size = len(items)
        self.errors: list[TkError] = []
        self._counting = counting
        self._outcomes: list[Outcome | None] = [] if counting else [None] * len(items)
        self._through = through
        self._done = threading.Event()
        self._sent = -1  # unknown until all are handed over
        self._answered = 0
        numbers, records = self._placed(items)
        self._sent = self._send(numbers, records) if records else 0
        self._deadline = time.monotonic() + settings.REQUEST_TIMEOUT

    @property
    def landed(self) -> bool:
        """Whether every outcome is there."""
        return self._answered == self._sent

    def wait(self) -> "Flight":
        """Return when every outcome is there, at most REQUEST_TIMEOUT after the last record was handed over."""
        while not self.landed and time.monotonic() < self._deadline:
            self._done.wait(0.1)
        if not self.landed:
            self.errors += [OutcomeUnknown() for _ in range(self._sent - self._answered)]
        return self

    @property
    def outcomes(self) -> list[Outcome]:
        return [OutcomeUnknown() if outcome is None else outcome for outcome in self._outcomes]

    def _fail(self, number: int, error: TkError) -> None:
        self.errors.append(error)
        if not self._counting:
            self._outcomes[number] = error

    def _placed(self, items: Sequence[Item]) -> tuple[Sequence[int], list[Record]]:
        """The records whose topic and partition are there, and their numbers in the window."""
        records = [item for item in items if type(item) is Record and item.partition is None]
        if len(records) == len(items) and not any(
            isinstance(_look(topic), TkError) for topic in {r.topic for r in records}
        ):
            return range(len(items)), records  # as nearly always: nothing has to be looked at one by one
        known: dict[str, topics.Topic | TkError] = {}
        numbers, records = [], []
        for number, item in enumerate(items):
            if isinstance(item, TkError):
                self._fail(number, item)
                continue
            topic = known.get(item.topic)
            if topic is None:
                topic = known[item.topic] = _look(item.topic)
            if isinstance(topic, TkError):
                self._fail(number, topic)
            elif item.partition is not None and (error := producer.misplaced(item, topic)):
                self._fail(number, error)
            else:
                numbers.append(number)
                records.append(item)
        return numbers, records

    def _send(self, numbers: Sequence[int], records: list[Record]) -> int:
        """Hand the records over; give the number that will be acknowledged."""
        first = records[0].topic
        apart = [r for r in records if r.headers or r.timestamp is not None or r.topic != first]
        hand_over = self._one_by_one if apart else self._together
        at = sent = 0
        give_up = time.monotonic() + settings.REQUEST_TIMEOUT
        while at < len(records):
            made = producer.current() if self._through is None else self._through  # one with nothing to send is false
            # Half of the queue is left to single messages; a batch with a producer of its own may fill it.
            room = self._through is not None or len(made) <= settings.QUEUE_MESSAGES // 2
            passed, taken = hand_over(made, numbers[at:], records[at:]) if room else (0, 0)
            at += passed
            sent += taken
            if passed:
                give_up = time.monotonic() + settings.REQUEST_TIMEOUT
            elif time.monotonic() > give_up:
                for number in numbers[at:]:
                    self._fail(number, QueueFull())
                break
            if at < len(records):
                time.sleep(PAUSE_SECONDS)
        return sent

    def _together(self, made: Producer, numbers: Sequence[int], records: Sequence[Record]) -> tuple[int, int]:
        """By produce_batch, which takes no headers and no timestamps. Gives how many are dealt with, how many were sent."""
        counted, delivered = self._counted, self._delivered
        if self._counting:
            messages: list[dict[str, Any]] = [{"value": r.value, "key": r.key, "callback": counted} for r in records]
        else:
            messages = [
                {"value": r.value, "key": r.key, "callback": partial(delivered, number)}
                for number, r in zip(numbers, records, strict=True)
            ]
        for record, message in zip(records, messages, strict=True):
            if record.partition is not None:
                message["partition"] = record.partition
        taken = made.client.produce_batch(records[0].topic, messages)
        if taken == len(messages):
            return taken, taken
        failed = 0
        for index, message in enumerate(messages):
            error: KafkaError | None = message.get("_error")
            if error is None:
                continue
            if error.code() == KafkaError._QUEUE_FULL:  # then so are all that follow
                return index, index - failed
            failed += 1
            self._fail(numbers[index], made.refusal(error, records[index]))
        return len(messages), taken

    def _one_by_one(self, made: Producer, numbers: Sequence[int], records: Sequence[Record]) -> tuple[int, int]:
        produce, taken = made.client.produce, 0
        callback: Callable[[KafkaError | None, Message], None] = self._counted
        for index, record in enumerate(records):
            if not self._counting:
                callback = partial(self._delivered, numbers[index])
            try:
                produce(
                    record.topic,
                    record.value,
                    record.key,
                    -1 if record.partition is None else record.partition,
                    on_delivery=callback,
                    timestamp=record.timestamp or 0,
                    headers=list(record.headers) or None,
                )
                taken += 1
            except BufferError:
                return index, taken
            except KafkaException as error:
                self._fail(numbers[index], made.refusal(error.args[0], record))
        return len(records), taken

    # The two below run on the producer's thread, which alone counts.

    def _delivered(self, number: int, error: KafkaError | None, message: Message) -> None:
        if error is None:
            self._outcomes[number] = producer.receipt(message)
        self._counted(error, message, number)

    def _counted(self, error: KafkaError | None, message: Message, number: int = 0) -> None:
        if error is not None:
            self._fail(number, producer.failure(error, message.topic() or ""))
        self._answered += 1
        if self._answered == self._sent:
            self._done.set()


def _look(name: str) -> topics.Topic | TkError:
    try:
        return topics.get(name)
    except TkError as error:
        return error
