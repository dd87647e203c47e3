"""What the soak's faults happen to: all of the product at once, with a supervisor's care."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tests.faults.clock import Clock
from tests.faults.load import Clients
from tests.faults.stand import GROUPS, SECOND, Stand, eventually
from tests.faults.web import Web, free_port
from tklocal.child import Child

STORES = ("database", "sqlite", "file", "text")  # of every topic; handlers and letters are of the first
PENDING = "SELECT count(*) FROM tk_outboxevent WHERE state = 0"


class System:
    """Three web servers, one of them forked from a preloaded parent, two relays, three consumer processes.

    All go by one clock. Groups store in PostgreSQL, in SQLite and in files, from two topics: the second is there to be
    deleted and to grow.
    """

    def __init__(self, stand: Stand) -> None:
        self.stand = stand
        self.draw = stand.draw
        self.clock = Clock(stand.folder)
        self.second_topic = f"{stand.topic}.second"
        self.dead_topic = f"{stand.topic}.dead"
        stand.make_topic(6)
        stand.make_topic(3, self.second_topic)
        stand.make_topic(1, self.dead_topic)
        self._env = {
            **self.clock.environment,
            **stand.add_sqlite(),
            "FAULTS_SECOND_TOPIC": self.second_topic,
            "FAULTS_POLL_MS": "6000",  # for a handler that is slower
        }
        self._start_web: list[Callable[[int], Web]] = [
            lambda port: stand.web(port, workers=2, **self._env),
            lambda port: stand.web(port, **self._env),
            lambda port: stand.preloaded_web(port, threads=8, **self._env),
        ]
        self.webs = [start(free_port()) for start in self._start_web]
        self._start()
        # Clients whose keys settle what is unknown: held while the database forgets what it knew of them.
        self.keyed: Clients = stand.clients(*self.webs, clients=2, keys=True, pause=0.15)

    def _start(self) -> None:
        self.relays = [self.stand.relay(**self._env) for _ in range(2)]
        self.consumers = [self.consume(processes) for processes in (2, 1)]

    def consume(self, processes: int = 1) -> Child:
        return self.stand.consume(*GROUPS, *SECOND, processes=processes, **self._env)

    @property
    def forked(self) -> Web:
        return self.webs[2]

    @property
    def asgi(self) -> list[Web]:
        """Those that hold many connections that are slow."""
        return self.webs[:2]

    def end(self, child: Child) -> None:
        code = self.stand.end(child)
        if code:
            self.stand.broke("exit codes", f"{code} after SIGTERM: {child.process.args}")

    def tend(self) -> None:
        """Start again what has ended, as a supervisor does, and wait until web servers answer."""
        for number, web in enumerate(self.webs):
            if not web.child.alive:
                self._bury(web.child)
                self.webs[number] = self._start_web[number](web.port)
        for number, child in enumerate(self.relays):
            if not child.alive:
                self._bury(child)
                self.relays[number] = self.stand.relay(**self._env)
        for number, child in enumerate(self.consumers):
            if not child.alive:
                self._bury(child)
                self.consumers[number] = self.consume(2 - number)
        for web in self.webs:
            web.wait()

    def _bury(self, child: Child) -> None:
        child.wait()
        if child in self.stand.children:
            self.stand.children.remove(child)

    @contextmanager
    def down(self) -> Iterator[None]:
        """All of it has ended in order, and what the outbox had is sent; after the block it runs again."""
        for web in self.webs:
            self.end(web.child)
        eventually(lambda: self.stand.servers.sql(PENDING, self.stand.name) == [(0,)])
        for child in (*self.relays, *self.consumers):
            self.end(child)
        yield
        self._start()
        self.tend()
