"""Many records on their way at once: in order, a bounded number unacknowledged, an outcome for each."""

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from operator import attrgetter
from typing import Any, Literal, Self, TypeVar

from confluent_kafka import KafkaError, Message

from tk import producer, topics
from tk.conf import settings
from tk.errors import OutcomeUnknown, QueueFull, TkError
from tk.producer import Delivered, Producer
from tk.record import Receipt, Record, Text

WINDOW = 2_000  # records that are handed over together, at most
IN_FLIGHT = 8  # windows that wait for their acknowledgements; a window is what the source gives at once
PAUSE_SECONDS = 0.002

Item = Record | TkError  # an error is no record: it is its own outcome
Outcome = Receipt | TkError
Telling = Literal["receipts", "errors", "counts"]  # of each record its outcome; which records failed; how many did


T = TypeVar("T")


class Alike(list[T]):
    """Checked records of one topic: a window that need not be looked at one by one."""

    def __init__(self, topic: str, records: Iterable[T]) -> None:
        super().__init__(records)
        self.topic = topic

    def first(self, count: int) -> Self:
        return type(self)(self.topic, self[:count])


class Values(Alike[bytes]):
    """Values with nothing beside them."""


class Texts(Alike[Text]):
    """Records that the client takes as they were read, without a partition or a time of their own."""


Window = Sequence[Item] | Values | Texts
_headers = attrgetter("headers")


def sending(
    windows: Iterable[Window], through: Producer | None = None, telling: Telling = "receipts"
) -> Iterator["Flight"]:
    """Send checked records and give their outcomes, window by window, in order.

    A full queue is waited for. A record has DELIVERY_TIMEOUT from when it was handed over; where nothing moves for
    REQUEST_TIMEOUT, what was not handed over is QueueFull. through: another producer than the process's own. telling:
    receipts take half of the time.
    """
    flying: deque[Flight] = deque()
    for window in windows:
        flying.append(Flight(window, through, telling))
        while flying and (flying[0].landed or len(flying) > IN_FLIGHT):
            yield flying.popleft().wait()
    while flying:
        yield flying.popleft().wait()


class Flight:
    """A window on its way: one object for all its records.

    size: of its records. failures: numbers in the window and errors of those that failed; -1 where only counts are told.
    outcomes: of each, in order; none without receipts.
    """

    def __init__(self, window: Window, through: Producer | None, telling: Telling) -> None:
        self.size = len(window)
        self.failures: list[tuple[int, TkError]] = []
        self._telling = telling
        self._receipts: list[Receipt | None] = [None] * len(window) if telling == "receipts" else []
        self._through = through
        self._done = threading.Event()
        self._sent = -1  # unknown until all are handed over
        self._answered = 0
        self._sent = self._start(window)
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
            self.failures += [(-1, OutcomeUnknown()) for _ in range(self._sent - self._answered)]
        return self

    @property
    def errors(self) -> list[TkError]:
        return [error for _, error in self.failures]

    @property
    def outcomes(self) -> list[Outcome]:
        failed = dict(self.failures)
        return [receipt or failed.get(number) or OutcomeUnknown() for number, receipt in enumerate(self._receipts)]

    def _fail(self, number: int, error: TkError) -> None:
        self.failures.append((number, error))

    def _start(self, window: Window) -> int:
        """Hand the records over; give the number that will be acknowledged."""
        if isinstance(window, Values | Texts):
            return self._start_alike(window, range(self.size))
        numbers, records = self._placed(window)
        if not records:
            return 0
        topic = records[0].topic
        if [r for r in records if r.headers or r.partition is not None or r.timestamp is not None or r.topic != topic]:
            return self._send(numbers, partial(self._one_by_one, numbers, records, None))
        return self._together(topic, numbers, [{"value": record.value, "key": record.key} for record in records])

    def _start_alike(self, window: Values | Texts, numbers: Sequence[int]) -> int:
        topic, found = window.topic, _look(window.topic)
        if isinstance(found, TkError):
            self.failures += [(number, found) for number in numbers]
            return 0
        if isinstance(window, Values):
            return self._together(topic, numbers, [{"value": value} for value in window])
        if any(map(_headers, window)):
            return self._send(numbers, partial(self._one_by_one, numbers, window, topic))
        return self._together(topic, numbers, [{"value": text.value, "key": text.key} for text in window])

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

    def _send(self, numbers: Sequence[int], hand_over: Callable[[Producer, int], tuple[int, int]]) -> int:
        """Hand over until all are dealt with; give how many were sent. hand_over: from the n-th on, as far as the queue has
        room; gives how many are dealt with, how many were sent."""
        at = sent = 0
        give_up = time.monotonic() + settings.REQUEST_TIMEOUT
        while at < len(numbers):
            made = producer.current() if self._through is None else self._through  # one with nothing to send is false
            # Half of the queue is left to single messages; a batch with a producer of its own may fill it.
            room = self._through is not None or len(made) <= settings.QUEUE_MESSAGES // 2
            passed, taken = hand_over(made, at) if room else (0, 0)
            at += passed
            sent += taken
            if passed:
                give_up = time.monotonic() + settings.REQUEST_TIMEOUT
            elif time.monotonic() > give_up:
                self.failures += [(number, QueueFull()) for number in numbers[at:]]
                break
            if at < len(numbers):
                time.sleep(PAUSE_SECONDS)
        return sent

    def _together(self, topic: str, numbers: Sequence[int], messages: list[dict[str, Any]]) -> int:
        """`_send` by produce_batch, which takes no headers and no timestamps, and looks at no message's partition."""
        callback: Delivered | None = self._counted
        if self._telling != "counts":
            callback = None
            for number, message in zip(numbers, messages, strict=True):
                message["callback"] = self._callback(number)

        def hand_over(made: Producer, at: int) -> tuple[int, int]:
            left = messages[at:] if at else messages
            taken = made.client.produce_batch(topic, left, on_delivery=callback)
            if taken == len(left):
                return taken, taken
            failed = 0
            for index, message in enumerate(left):
                error: KafkaError | None = message.pop("_error", None)
                if error is None:
                    continue
                if error.code() == KafkaError._QUEUE_FULL:  # then so are all that follow
                    for later in left[index:]:
                        later.pop("_error", None)
                    return index, index - failed
                failed += 1
                self._fail(numbers[at + index], made.refusal(error, topic))
            return len(left), taken

        return self._send(numbers, hand_over)

    def _one_by_one(
        self, numbers: Sequence[int], records: Sequence[Any], topic: str | None, made: Producer, at: int
    ) -> tuple[int, int]:
        """`_send` of records, or of a topic's texts."""
        taken, counting = 0, self._telling == "counts"
        produce = made.produce if topic is None else partial(made.produce_text, topic)
        callback: Delivered = self._counted
        for index in range(at, len(records)):
            if not counting:
                callback = self._callback(numbers[index])
            try:
                produce(records[index], callback)
                taken += 1
            except BufferError:
                return index - at, taken
            except TkError as error:
                self._fail(numbers[index], error)
        return len(records) - at, taken

    def _callback(self, number: int) -> Delivered:
        return partial(self._delivered if self._telling == "receipts" else self._numbered, number)

    # The three below run on the producer's thread, which alone counts.

    def _delivered(self, number: int, error: KafkaError | None, message: Message) -> None:
        if error is None:
            self._receipts[number] = producer.receipt(message)
        self._counted(error, message, number)

    def _numbered(self, number: int, error: KafkaError | None, message: Message) -> None:
        self._counted(error, message, number)

    def _counted(self, error: KafkaError | None, message: Message, number: int = -1) -> None:
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
