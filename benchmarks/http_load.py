"""The load of http_single: closed-loop requests over kept connections, in a process of its own.

python -m benchmarks.http_load PORT CONNECTIONS SECONDS TOKEN    prints the figures as JSON

Plain sockets, for what makes the load takes its time from the server's cores; each answer's status and body are
looked at.
"""

import json
import selectors
import socket
import sys
import time

from benchmarks.harness import Figures, percentile

REQUEST = (
    b"POST /tkprod HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer %s\r\nContent-Type: text/plain\r\n"
    b"Content-Length: 100\r\n\r\n" + b"x" * 100
)
PATIENCE = 30.0  # seconds without any answer


class Connection:
    """A kept connection, with the answer as far as it has come and the time of its request."""

    __slots__ = ("answer", "sent", "socket")

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.answer, self.sent = b"", 0.0


def load(port: int, connections: int, seconds: float, token: str) -> Figures:
    request, latencies = REQUEST % token.encode(), list[float]()
    made = [Connection(port) for _ in range(connections)]
    began = time.perf_counter()
    with selectors.DefaultSelector() as waiting:
        for each in made:
            waiting.register(each.socket, selectors.EVENT_READ, each)
            each.sent = time.perf_counter()
            each.socket.sendall(request)
        while waiting.get_map():
            ready = waiting.select(PATIENCE)
            assert ready, "no answer"
            for key, _ in ready:
                each = key.data
                came = each.socket.recv(65_536)
                assert came, "the server closed a connection"
                each.answer += came
                assert each.answer.startswith(b"HTTP/1.1 200"[: len(each.answer)]), each.answer
                if not each.answer.endswith(b"\r\n\r\nProduced message."):
                    continue
                now = time.perf_counter()
                latencies.append((now - each.sent) * 1000)
                if now - began < seconds:
                    each.answer, each.sent = b"", now
                    each.socket.sendall(request)
                else:
                    waiting.unregister(each.socket)
    took = time.perf_counter() - began
    for each in made:
        each.socket.close()
    return figures(latencies, took)


def figures(latencies: list[float], seconds: float) -> Figures:
    """Of requests that took so many ms each, and so many seconds together."""
    return {
        "requests/s": len(latencies) / seconds,
        "p50 ms": percentile(latencies, 0.5),
        "p99 ms": percentile(latencies, 0.99),
    }


if __name__ == "__main__":
    port, connections, seconds, token = sys.argv[1:]
    print(json.dumps(load(int(port), int(connections), float(seconds), token)))
