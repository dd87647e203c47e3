"""The producer for event loops: many coroutines wait for acknowledgements, which come from the producer's thread."""

import asyncio
from collections import deque

from tk import producer, topics
from tk.conf import settings
from tk.deadlines import Deadlines
from tk.errors import OutcomeUnknown, TkError
from tk.record import Receipt, Record, check

Waiting = asyncio.Future[Receipt | TkError]


async def send(record: Record, here: "Here | None" = None) -> Receipt:
    """`producer.send` without holding up the running loop; raises what it raises. here: of the running loop."""
    here = here or of_this_loop()
    future: Waiting = here.loop.create_future()

    def done(outcome: Receipt | TkError) -> None:
        here.put(future, outcome)

    age, topic = topics.metadata.known(record.topic)
    if topic is not None and age < settings.METADATA_SECONDS:
        if age > settings.METADATA_SECONDS / 2 and not here.asking:
            here.look_ahead(record.topic)
        check(record)
        producer.hand_over(record, topic, done)
    else:  # the cluster is asked, which may take a moment: not on the loop's thread
        await asyncio.to_thread(producer.submit, record, done)

    def late() -> None:  # librdkafka's own timeout is shorter: this is for a poller that stalls
        if not future.done():
            future.set_result(OutcomeUnknown())

    deadline = here.deadlines.set(late)
    try:
        outcome = await future
    finally:
        deadline.met()
    if isinstance(outcome, TkError):
        raise outcome
    return outcome


class Here:
    """What one loop has: its deadlines, and acknowledgements that come from the producer's thread with one wake-up for all
    that have come."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.deadlines = Deadlines(loop)
        self.asking: set[asyncio.Future[None]] = set()  # looks at topics under way; held, or they would be collected
        self._come: deque[tuple[Waiting, Receipt | TkError]] = deque()
        self._woken = False

    def put(self, future: Waiting, outcome: Receipt | TkError) -> None:
        """Called on the producer's thread."""
        self._come.append((future, outcome))
        if not self._woken:
            self._woken = True
            self.loop.call_soon_threadsafe(self._take)

    def _take(self) -> None:
        self._woken = False  # before the deque is emptied: what comes later wakes again
        while self._come:
            future, outcome = self._come.popleft()
            if not future.done():
                future.set_result(outcome)

    def look_ahead(self, topic: str) -> None:
        """Ask for the topic before its entry is too old, so that no record waits for the answer."""
        asking = asyncio.ensure_future(asyncio.to_thread(_ask, topic))
        self.asking.add(asking)
        asking.add_done_callback(self.asking.discard)


def _ask(topic: str) -> None:
    try:
        topics.get(topic, 0)
    except TkError:
        topics.metadata.forget()  # the next record asks, and is told what is wrong


_loops: dict[asyncio.AbstractEventLoop, Here] = {}


def of_this_loop() -> Here:
    """What the running loop has."""
    loop = asyncio.get_running_loop()
    found = _loops.get(loop)
    if found is None:
        for old in [each for each in _loops if each.is_closed()]:
            del _loops[old]
        found = _loops[loop] = Here(loop)
    return found
