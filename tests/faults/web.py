"""A web server under test."""

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import httpx
import psutil

from tests.waiting import eventually
from tklocal.child import Child


class Web:
    """A web server under test."""

    def __init__(self, child: Child, url: str, port: int) -> None:
        self.child = child
        self.url = url
        self.port = port

    def wait(self, seconds: float = 60) -> None:
        eventually(self._answers, seconds, 0.2)

    def _answers(self) -> bool:
        with contextlib.suppress(httpx.HTTPError):
            return httpx.get(f"{self.url}/healthz", timeout=5, trust_env=False).status_code == 200
        return False

    def memory(self) -> int:
        """Resident bytes of the server and its workers."""
        parent = psutil.Process(self.child.pid)
        return sum(process.memory_info().rss for process in [parent, *parent.children(recursive=True)])

    @contextmanager
    def memory_watched(self) -> Iterator[Callable[[], int]]:
        """Gives what tells how many MB more than at the beginning it has had at most."""
        before, most, ending = self.memory(), [0], threading.Event()

        def look() -> None:
            while not ending.wait(0.05):
                most[0] = max(most[0], self.memory() - before)

        looking = threading.Thread(target=look)
        looking.start()
        try:
            yield lambda: most[0] >> 20
        finally:
            ending.set()
            looking.join()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port: int = listening.getsockname()[1]
        return port
