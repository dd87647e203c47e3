"""What was stored after a cursor, for one who follows; and how it is written as an event."""

from typing import NamedTuple

import msgspec

from tk.access import Caller
from tkcons.viewer import cursor, store
from tkcons.viewer.cursor import Offsets
from tkcons.viewer.query import Query
from tkcons.viewer.rows import Found, Place, fetch

LATEST = 200  # messages of all partitions together that are told of at once; older ones count as dropped

_encode = msgspec.json.Encoder().encode


class View(msgspec.Struct, frozen=True):
    """What somebody follows; those who follow the same share every byte. topics: those that a token names."""

    query: Query
    topics: tuple[str, ...] = ()

    def takes(self, place: Place) -> bool:
        return self.query.takes(place) and Caller("", topics=self.topics).sees(place.topic)


class News(NamedTuple):
    """What was stored. dropped: offsets that were passed by because there were too many at once."""

    rows: list[Found]
    dropped: dict[int, int]  # by the position's key


class Frame(NamedTuple):
    """An event on the wire, and how many messages are in it."""

    data: bytes
    messages: int


def between(places: list[Place], after: Offsets, ends: Offsets, *, whole: bool) -> News:
    """What was stored in these places from `after` on (where it has none: from the group's start), up to `ends`."""
    changed = []
    for place in places:
        start = after.get(place.pk, place.start_offset)
        if ends[place.pk] > start:
            changed.append((place, start))
    rows: list[Found] = []
    dropped: dict[int, int] = {}
    for place, start in changed:
        end = ends[place.pk]
        first = max(start, end - max(1, LATEST // len(changed)))
        if first > start:
            dropped[place.pk] = first - start
        stored = store.messages().filter(position=place.pk, offset__gte=first, offset__lt=end).order_by("offset")
        rows += fetch(stored, {place.pk: place}, whole=whole)
    return News(sorted(rows, key=lambda row: row.pk), dropped)


def catch_up(view: View, after: Offsets) -> tuple[list[Found], int, str]:
    """For one who asks now and then: the rows after the cursor, how many were dropped, and the cursor behind them."""
    places = [place for place in store.places() if view.takes(place)]
    ends = {place.pk: place.next_offset for place in places}
    news = between(places, after, ends, whole=bool(view.query.text))
    rows = [row for row in news.rows if view.query.matches_live(row)]
    return rows, sum(news.dropped.values()), cursor.dump(ends)


def messages_frame(bodies: list[bytes], place: str) -> Frame:
    """`messages`: a JSON list of rows; the event's id is the cursor behind them."""
    return Frame(b"id: %s\nevent: messages\ndata: [%s]\n\n" % (place.encode(), b",".join(bodies)), len(bodies))


def place_frame(place: str) -> Frame:
    """`place`: nothing new, but a cursor, so that who reconnects begins there."""
    return Frame(b"id: %s\nevent: place\ndata: {}\n\n" % place.encode(), 0)


def dropped_frame(count: int) -> bytes:
    """`dropped`: so many messages were stored that the follower is not told of."""
    return b'event: dropped\ndata: {"count": %d}\n\n' % count


def body(row: Found) -> bytes:
    return _encode(row.row())
