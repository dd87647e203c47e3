"""One reader a process, for all who follow: a thread that lives while somebody does, and bounded queues."""

import asyncio
import logging
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable

from django.db import DatabaseError, InterfaceError, reset_queries
from django.utils.translation import gettext_noop as _

from tkcons.errors import TkconsError
from tkcons.viewer import cursor, live, store
from tkcons.viewer.changes import Changes
from tkcons.viewer.cursor import Offsets
from tkcons.viewer.live import Frame, View
from tkcons.viewer.rows import Found, Place

logger = logging.getLogger(__name__)

QUEUE_BYTES = 1_048_576  # of frames that wait for one follower; what does not fit is dropped, and told
LINGER = 5.0  # seconds that the thread stays when nobody follows any more
LOOK_SECONDS = 0.5  # between two looks at the positions where nothing tells of changes
# When more is stored than anybody can read: seconds between two looks, at least and at most, and in between so many
# that all followers together are sent no more than this, in bytes a second: the consumer needs the processor.
FLOOD_SECONDS = 0.25, 2.0
FLOOD_BYTES = 33_554_432
RETRY_SECONDS = 1.0  # while the database does not answer


class TooManyViewers(TkconsError):
    text = _("As many follow as this process takes: ask with poll=1 instead, or try again.")
    code = "too_many_viewers"
    status = 503
    retry_after = 30


class Viewer:
    """One who follows, on a thread of its own or, when it has said in which, in an event loop."""

    def __init__(self, view: View, after: Offsets | None) -> None:
        """after: where to go on; None: from now on."""
        self.view = view
        self.after = after
        self.ended = False
        self.bell = threading.Event()
        self.loop: asyncio.AbstractEventLoop | None = None
        self.loop_bell = asyncio.Event()  # belongs to the loop: set there alone
        self._frames: deque[Frame] = deque()
        self._bytes = 0
        self._dropped = 0
        self._lock = threading.Lock()

    def push(self, frame: Frame, dropped: int = 0) -> None:
        with self._lock:
            self._dropped += dropped
            self._frames.append(frame)
            self._bytes += len(frame.data)
            while self._bytes > QUEUE_BYTES and len(self._frames) > 1:
                old = self._frames.popleft()
                self._bytes -= len(old.data)
                self._dropped += old.messages

    def take(self) -> bytes | None:
        """What waits, oldest first; None: nothing."""
        with self._lock:
            if not self._frames:
                return None
            data = b"".join(frame.data for frame in self._frames)
            if self._dropped:
                data = live.dropped_frame(self._dropped) + data
            self._frames.clear()
            self._bytes = self._dropped = 0
            return data


class Hub:
    """Followers join and leave from any thread or loop."""

    def __init__(self) -> None:
        self.pid = os.getpid()
        self._lock = threading.Lock()
        self._viewers: set[Viewer] = set()
        self._joining: list[Viewer] = []
        self._thread: threading.Thread | None = None
        self._ending = False
        self._ends: Offsets | None = None  # up to where the followers have been told

    def join(self, viewer: Viewer, limit: int) -> None:
        """Raises TooManyViewers when `limit` follow already."""
        with self._lock:
            if self._ending or len(self._viewers) + len(self._joining) >= limit:
                raise TooManyViewers
            self._joining.append(viewer)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="tkcons-hub", daemon=True)
                self._thread.start()

    def leave(self, viewer: Viewer) -> None:
        with self._lock:
            self._viewers.discard(viewer)
            if viewer in self._joining:
                self._joining.remove(viewer)

    def close(self) -> None:
        """End all followers: the server stops. Nothing is waited for."""
        self._ending = True
        for viewer in self._all():
            viewer.ended = True
        _ring(self._all())

    def _all(self) -> list[Viewer]:
        return [*self._viewers, *self._joining]

    def _run(self) -> None:
        with Changes(store.using()) as changes:
            followed = looked = time.monotonic()
            pause = 0.0
            self._ends = None
            while not self._ending:
                try:
                    changed = changes.wait()
                    now = time.monotonic()
                    if self._all():
                        followed = now
                    elif self._rests(now - followed):
                        return
                    if self._joining or now - looked > (pause if changed or pause else LOOK_SECONDS):
                        looked = now
                        pause = self._look()
                except (DatabaseError, InterfaceError) as error:
                    logger.warning("no look at the store", extra={"action": "follow", "error": str(error)})
                    changes.disconnect()
                    time.sleep(RETRY_SECONDS)
                reset_queries()

    def _rests(self, seconds: float) -> bool:
        """Whether the thread ends: nobody has followed for a while, and nobody comes at this moment."""
        with self._lock:
            if seconds < LINGER or self._viewers or self._joining:
                return False
            self._thread = None
            return True

    def _look(self) -> float:
        """Tell everybody what is new; gives how long the next look waits when more was stored than was told, else 0."""
        places = store.places()
        ends = {place.pk: place.next_offset for place in places}
        known = ends if self._ends is None else self._ends
        with self._lock:
            joining, self._joining = self._joining, []
            old = list(self._viewers)
            self._viewers.update(joining)
        whole = any(viewer.view.query.text for viewer in old)
        news = live.between(places, known, ends, whole=whole)
        self._ends = ends
        told = self._tell(old, places, news) if news.rows or news.dropped else 0
        for viewer in joining:
            self._welcome(viewer, places, ends)
        _ring(joining)
        least, most = FLOOD_SECONDS
        return min(most, max(least, told / FLOOD_BYTES)) if news.dropped else 0.0

    def _tell(self, viewers: Iterable[Viewer], places: list[Place], news: live.News) -> int:
        """Gives how many bytes that is, for all viewers together."""
        told = 0
        bodies: dict[int, bytes] = {}
        frames: dict[View, tuple[Frame, int] | None] = {}
        rung = []
        for viewer in viewers:
            view = viewer.view
            if view not in frames:
                frames[view] = self._frame(view, places, news, bodies)
            made = frames[view]
            if made is not None:
                viewer.push(*made)
                rung.append(viewer)
                told += len(made[0].data)
        _ring(rung)
        return told

    def _frame(
        self, view: View, places: list[Place], news: live.News, bodies: dict[int, bytes]
    ) -> tuple[Frame, int] | None:
        """The event for all who follow the same, and how many messages they are not told of; None: nothing for them."""
        taken = {place.pk: place.next_offset for place in places if view.takes(place)}
        dropped = sum(count for pk, count in news.dropped.items() if pk in taken)
        rows = [row for row in news.rows if row.place.pk in taken and view.query.matches_live(row)]
        if not (rows or dropped):
            return None
        for row in rows:
            if row.pk not in bodies:
                bodies[row.pk] = live.body(row)
        return live.messages_frame([bodies[row.pk] for row in rows], cursor.dump(taken)), dropped

    def _welcome(self, viewer: Viewer, places: list[Place], ends: Offsets) -> None:
        """What the follower has missed, and where it stands now."""
        view = viewer.view
        taken = [place for place in places if view.takes(place)]
        if viewer.after is not None:
            news = live.between(taken, viewer.after, ends, whole=bool(view.query.text))
            rows: list[Found] = [row for row in news.rows if view.query.matches_live(row)]
            dropped = sum(news.dropped.values())
            if rows or dropped:
                place = cursor.dump({place.pk: place.next_offset for place in taken})
                viewer.push(live.messages_frame([live.body(row) for row in rows], place), dropped)
                return
        viewer.push(live.place_frame(cursor.dump({place.pk: place.next_offset for place in taken})))


def _ring(viewers: Iterable[Viewer]) -> None:
    """Wake the followers; one call a loop, however many follow in it."""
    loops: dict[asyncio.AbstractEventLoop, list[Callable[[], None]]] = {}
    for viewer in viewers:
        if viewer.loop is None:
            viewer.bell.set()
        else:
            loops.setdefault(viewer.loop, []).append(viewer.loop_bell.set)
    for loop, bells in loops.items():
        try:
            loop.call_soon_threadsafe(_set_all, bells)
        except RuntimeError:  # the loop has ended, and its followers with it
            continue


def _set_all(bells: list[Callable[[], None]]) -> None:
    for ring in bells:
        ring()


_lock = threading.Lock()
_hub: Hub | None = None


def hub() -> Hub:
    """This process's hub. One made before a fork is not the child's."""
    global _hub
    with _lock:
        if _hub is None or _hub.pid != os.getpid():
            _hub = Hub()
        return _hub


def close() -> None:
    """End all who follow in this process: before a server waits for its requests to end."""
    if _hub is not None and _hub.pid == os.getpid():
        _hub.close()
