"""The load of http_single: closed-loop requests over kept connections, in a process of its own.

python -m benchmarks.http_load PORT CONNECTIONS SECONDS    prints the figures as JSON
"""

import asyncio
import json
import sys
import time

from benchmarks.harness import Figures, percentile

REQUEST = (
    b"POST /tkprod HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer %s\r\nContent-Type: text/plain\r\n"
    b"Content-Length: 100\r\n\r\n" + b"x" * 100
)


class Connection(asyncio.Protocol):
    """Sends a request, waits for its answer, sends the next."""

    def __init__(self, request: bytes, until: float, latencies: list[float]) -> None:
        self._request, self._until, self._latencies = request, until, latencies
        self._answer = b""
        self.ended = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        self._send()

    def _send(self) -> None:
        self._began = time.perf_counter()
        self._transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        self._answer += data
        if not self._answer.endswith(b"Produced message."):
            if not self._answer.startswith(b"HTTP/1.1 200"[: len(self._answer)]):
                self._end(RuntimeError(self._answer.decode(errors="replace")))
            return
        self._answer = b""
        now = time.perf_counter()
        self._latencies.append((now - self._began) * 1000)
        if now < self._until:
            self._send()
        else:
            self._end(None)

    def connection_lost(self, error: Exception | None) -> None:
        self._end(error or ConnectionError("closed"))

    def _end(self, error: Exception | None) -> None:
        if self.ended.done():
            return
        self._transport.close()
        if error is None:
            self.ended.set_result(None)
        else:
            self.ended.set_exception(error)


async def load(port: int, connections: int, seconds: float, token: str) -> Figures:
    latencies: list[float] = []
    loop, began = asyncio.get_running_loop(), time.perf_counter()
    request = REQUEST % token.encode()
    made = [
        (await loop.create_connection(lambda: Connection(request, began + seconds, latencies), "127.0.0.1", port))[1]
        for _ in range(connections)
    ]
    await asyncio.gather(*(each.ended for each in made))
    return figures(latencies, time.perf_counter() - began)


def figures(latencies: list[float], seconds: float) -> Figures:
    """Of requests that took so many ms each, and so many seconds together."""
    return {
        "requests/s": len(latencies) / seconds,
        "p50 ms": percentile(latencies, 0.5),
        "p99 ms": percentile(latencies, 0.99),
    }


if __name__ == "__main__":
    import uvloop

    port, connections, seconds, token = sys.argv[1:]
    print(json.dumps(uvloop.run(load(int(port), int(connections), float(seconds), token))))
