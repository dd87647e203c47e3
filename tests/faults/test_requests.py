"""Clients that go away, dawdle, flood, and never read; web servers that fork."""

import contextlib
import gzip
import random
import socket
import threading
import time

import httpx
import pytest

from tests.faults.stand import LONG, Stand, protected_by
from tests.faults.web import Web

pytestmark = [pytest.mark.faults, pytest.mark.timeout(400)]

MEGABYTE = 1 << 20


@protected_by("whole_body", "strangers")
def test_clients_go_away_in_mid_request(stand: Stand):
    """Some with the request sent whole, some with half of it: that half must not be taken for a message."""
    stand.make_topic()
    webs = [stand.web(), stand.preloaded_web()]  # ASGI and WSGI
    stand.consume("database")
    ending = threading.Event()
    with stand.clients(*webs), stand.fault("disconnects"):
        threads = [
            threading.Thread(target=leavers, args=(stand, webs[number % 2], number, ending)) for number in range(4)
        ]
        for thread in threads:
            thread.start()
        time.sleep(30 if LONG else 5)
        ending.set()
        for thread in threads:
            thread.join(20)
    stand.verdict("database")


def leavers(stand: Stand, web: Web, client: int | str, ending: threading.Event) -> None:
    draw = random.Random(f"{stand.seed}/leaver/{client}")
    number = 0
    while not ending.is_set():
        value = f"{stand.seed}.leaver.{client}.{number:06}"
        whole = draw.random() < 0.5
        stand.journal.sent(value, f"leaver/{client}", number)
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", web.port), timeout=10) as connection:
            connection.sendall(_head(stand, "text/plain", len(value), f"?topic={stand.topic}&key=l{client}"))
            if draw.random() < 0.5:
                time.sleep(draw.uniform(0, 0.02))
            connection.sendall(value.encode() if whole else value[: len(value) // 2].encode())
            time.sleep(draw.choice((0, 0.001, 0.02)))
        stand.journal.answered(value, "unknown" if whole else "refused")
        number += 1


def _head(stand: Stand, kind: str, length: int, query: str = "", more: str = "") -> bytes:
    return (
        f"POST /tkprod{query} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {stand.token}\r\n"
        f"Content-Type: {kind}\r\nContent-Length: {length}\r\n{more}\r\n"
    ).encode()


@pytest.mark.long
@protected_by("body_limit", "memory")
def test_slow_and_huge_bodies(stand: Stand):
    """Bodies that trickle in, a gzip bomb, bodies of 100 MB: refused in bounded memory, while others are served."""
    stand.make_topic()
    web = stand.web()
    stand.consume("database")
    with stand.clients(web):
        stand.wait_stored(50)
        with web.memory_watched() as grown, stand.fault("bodies"):
            bodies(stand, web, rounds=5)
        stand.wait_stored(50)
    stand.verdict("database")
    bounded(stand, grown(), 150)


def bodies(stand: Stand, web: Web, rounds: int, slow: int = 100) -> None:
    """slow: how many trickle in, a byte a round."""
    bomb = gzip.compress(bytes(100 * MEGABYTE))
    with contextlib.ExitStack() as opened:
        trickling = []
        for _ in range(slow):
            connection = opened.enter_context(socket.create_connection(("127.0.0.1", web.port), timeout=10))
            connection.sendall(_head(stand, "application/json", 1_000) + b"{")
            trickling.append(connection)
        http = opened.enter_context(
            httpx.Client(timeout=60, trust_env=False, headers={"Authorization": f"Bearer {stand.token}"})
        )
        for _ in range(rounds):
            headers = {"Content-Type": "application/json", "Content-Encoding": "gzip"}
            status = http.post(f"{web.url}/tkprod", content=bomb, headers=headers).status_code
            if status != 415:
                stand.broke("bomb", f"answered {status}")
            for kind in ("application/json", "text/plain", "application/x-ndjson"):
                if told := huge(http, f"{web.url}/tkprod?topic={stand.topic}", kind):
                    stand.broke("100 MB", f"{kind} answered {told}")
            for connection in trickling:
                with contextlib.suppress(OSError):
                    connection.send(b" ")


def bounded(stand: Stand, grown: int, allowed: int) -> None:
    """In MB."""
    stand.said.append(f"at most {grown} MB more memory")
    if grown > allowed:
        stand.broke("memory", stand.said[-1])


def huge(http: httpx.Client, url: str, kind: str) -> str:
    """100 MB of zero bytes; what was answered, but for a refusal: a 4xx, an end before all of it was read, or of NDJSON
    that its one line has failed."""
    try:
        answer = http.post(url, content=(bytes(MEGABYTE) for _ in range(100)), headers={"Content-Type": kind})
    except httpx.HTTPError:
        return ""
    failed = kind.endswith("ndjson") and answer.status_code == 200 and '"produced":0' in answer.text
    return "" if failed or 400 <= answer.status_code < 500 else f"{answer.status_code}: {answer.text[:200]}"


VIEWERS = 200


@pytest.mark.long
@protected_by("bounded_queue", "memory")
def test_viewers_that_never_read(stand: Stand):
    """They open the stream of what is stored, each of another search, and read not a byte; more of them are refused."""
    stand.make_topic()
    web = stand.web(FAULTS_VIEWERS=str(VIEWERS))
    stand.consume("database")
    with stand.clients(web), contextlib.ExitStack() as viewers:
        stand.wait_stored(50)
        with web.memory_watched() as grown, stand.fault("viewers"):
            for number in range(VIEWERS):
                viewer = viewers.enter_context(deaf_viewer(stand, web, number))
                assert viewer.recv(12, socket.MSG_PEEK) == b"HTTP/1.1 200"  # it is in; nothing is read by a look
            assert ask(stand, web, "/tkcons/events") == (503, "too_many_viewers")
            # So much of a message is shown; more of them a second are not told of, but counted as dropped.
            with stand.records(rate=40, size=600, headers=8):
                stand.wait_stored(6_000, seconds=240)
            answers = [ask(stand, web, "/tkcons/events?poll=1")[0] for _ in range(5)]
        stand.wait_stored(50)
    stand.verdict("database")
    bounded(stand, grown(), 2 * VIEWERS + 100)  # a megabyte waits for each, and as much may be in the server's hands
    stand.answered_in_time()
    if answers != [200] * 5:
        stand.broke("web", f"answered {answers}")


def deaf_viewer(stand: Stand, web: Web, number: int) -> socket.socket:
    made = socket.socket()
    made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)  # before it is connected: little gets stuck on the way
    made.connect(("127.0.0.1", web.port))
    day = f"2001-01-01T00:{number // 60:02}:{number % 60:02}"
    made.sendall(
        f"GET /tkcons/events?since={day} HTTP/1.1\r\nHost: 127.0.0.1\r\n"
        f"Authorization: Bearer {stand.token}\r\n\r\n".encode()
    )
    return made


def ask(stand: Stand, web: Web, path: str) -> tuple[int, str]:
    """Status and code of the answer, without its body."""
    headers = {"Authorization": f"Bearer {stand.token}"}
    with httpx.stream("GET", web.url + path, headers=headers, timeout=20, trust_env=False) as answer:
        return answer.status_code, answer.headers.get("X-Error-Code", "")


@pytest.mark.long
@protected_by("producer_after_fork", "unconfirmed")
def test_workers_are_forked_from_a_preloaded_parent(stand: Stand):
    stand.make_topic()
    web = stand.preloaded_web()
    stand.consume("database")
    with stand.clients(web) as load, stand.fault("fork"):
        time.sleep(20)
    stand.verdict("database")
    if load.confirmed < 20:
        stand.broke("unconfirmed", f"{load.confirmed} confirmed in 20 s")
