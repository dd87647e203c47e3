"""Events sent twice by the outbox's relay: known by the id in their header, and stored once."""

import re
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from confluent_kafka import Message

from tk.record import EVENT_ID_HEADER
from tkcons.sinks.base import Batch, Place

# Anything else under the reserved name was not written by the outbox: such a message is stored like any other.
_ID = re.compile(rb"[!-~]{1,100}")


class Event(NamedTuple):
    topic_id: str
    event_id: str


class Found(NamedTuple):
    """batches: as given, without repeats (a batch may be empty by it, its `end` stays). events: the new ones, each with
    its partition and offset."""

    batches: Sequence[Batch]
    events: dict[Event, tuple[int, int]]
    repeats: list[tuple[Place, int]]  # place and offset of what was taken out

    def before(self, offset: int) -> "Found":
        """Of one batch alone: what is before this offset."""
        events = {event: where for event, where in self.events.items() if where[1] < offset}
        return self._replace(events=events, repeats=[each for each in self.repeats if each[1] < offset])


def find(batches: Sequence[Batch], seen: Callable[[set[Event]], set[Event]]) -> Found:
    """Take repeats out: events that `seen` knows (it is asked once, and only if there are any), or earlier in these."""
    marked: dict[int, list[str | None]] = {}
    for number, batch in enumerate(batches):
        if any(map(Message.headers, batch.messages)):
            ids = [_event_id(message.headers()) for message in batch.messages]
            if any(ids):
                marked[number] = ids
    if not marked:
        return Found(batches, {}, [])
    known = set(seen({Event(batches[n].place.topic_id, event) for n, ids in marked.items() for event in ids if event}))
    kept, repeats = list(batches), []
    new: dict[Event, tuple[int, int]] = {}
    for number, ids in marked.items():
        batch = batches[number]
        messages = []
        for message, event_id in zip(batch.messages, ids, strict=True):
            if event_id is not None:
                event = Event(batch.place.topic_id, event_id)
                offset = int(message.offset() or 0)
                if event in known:
                    repeats.append((batch.place, offset))
                    continue
                known.add(event)
                new[event] = (batch.place.partition, offset)
            messages.append(message)
        kept[number] = batch._replace(messages=messages)
    return Found(kept, new, repeats)


def _event_id(headers: Any) -> str | None:
    for name, value in headers or ():
        if name == EVENT_ID_HEADER:
            return value.decode() if value is not None and _ID.fullmatch(value) else None
    return None
