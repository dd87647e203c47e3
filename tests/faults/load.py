"""Load whose every request is in a journal on disk: what was sent before it was sent, and what was answered."""

import json
import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Self

import httpx
from confluent_kafka import KafkaError, Message, Producer

NEVER_SENT = {"queue_full", "not_sent"}  # codes of a 503 that says so


class Journal:
    """A file of JSON Lines; see checker.read_journal."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._lock = threading.Lock()
        self._file = (folder / f"{time.time_ns()}.jsonl").open("a", buffering=1)

    def sent(self, value: str, client: str, number: int) -> None:
        self._write(value=value, client=client, number=number)

    def answered(self, value: str, outcome: str, status: int = 0, code: str = "") -> None:
        self._write(value=value, outcome=outcome, status=status, code=code)

    def mark(self, what: str) -> None:
        self._write(mark=what)

    def close(self) -> None:
        self._file.close()

    def _write(self, **row: object) -> None:
        text = json.dumps({**row, "at": time.time()})
        with self._lock:
            self._file.write(text + "\n")


class _Threads:
    """Clients on threads of their own, from `with` to its end. Each draws from a generator of its own."""

    def __init__(self, journal: Journal, seed: str, clients: int) -> None:
        self.journal = journal
        self.confirmed = 0  # for waiting; the journal is what counts
        self._seed = seed
        self._ending = threading.Event()
        self._turns = [threading.Lock() for _ in range(clients)]  # each held by its client while it sends
        self._threads = [threading.Thread(target=self._client, args=(number,)) for number in range(clients)]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *raised: object) -> None:
        self._ending.set()
        for thread in self._threads:
            thread.join(60)

    @contextmanager
    def held(self) -> Iterator[None]:
        """Nobody sends; what was begun has its answer."""
        with ExitStack() as turns:
            for turn in self._turns:
                turns.enter_context(turn)
            yield

    def _client(self, client: int) -> None:
        raise NotImplementedError

    def value(self, draw: random.Random, client: int, number: int) -> str:
        """An id that no other load has, some of them with more to carry."""
        return f"{self._seed}.{client}.{number:06}" + "-" * (draw.choice((0, 0, 10, 200)))


class Clients(_Threads):
    """HTTP clients. Each sends its messages under one key, the next after the answer to the last.

    urls: full addresses of servers; a client goes to the next one after a failure. pause: seconds, at most, between
    requests. value: makes ids, where the scenario wants others. keys: whether each request has an Idempotency-Key, under
    which it is repeated until its outcome is known.
    """

    def __init__(
        self,
        journal: Journal,
        urls: list[str],
        topic: str,
        token: str,
        *,
        seed: str,
        clients: int = 4,
        pause: float = 0.03,
        poison: int = 0,
        keys: bool = False,
    ) -> None:
        super().__init__(journal, seed, clients)
        self._urls = urls
        self._topic = topic
        self._token = token
        self._pause = pause
        self._poison = poison
        self._keys = keys

    def _client(self, client: int) -> None:
        draw = random.Random(f"{self._seed}/{client}")
        with httpx.Client(timeout=20, trust_env=False, headers={"Authorization": f"Bearer {self._token}"}) as http:
            number = 0
            while not self._ending.is_set():
                value = self.value(draw, client, number)
                if self._poison and draw.randrange(self._poison) == 0:
                    value += ".poison"
                with self._turns[client]:
                    self.journal.sent(value, f"{self._seed}/{client}", number)
                    self._ask(http, value, client, number)
                number += 1
                self._ending.wait(draw.uniform(0, self._pause))

    def _ask(self, http: httpx.Client, value: str, client: int, number: int) -> None:
        headers = {"Accept": "application/json"} | ({"Idempotency-Key": value} if self._keys else {})
        body = {"topic": self._topic, "message": value, "key": f"{self._seed}/{client}"}
        maybe = False  # whether a try before this one may have got through
        while True:
            url = self._urls[(client + number) % len(self._urls)]
            status, code = 0, ""
            try:
                answer = http.post(url, json=body, headers=headers)
                status, code = answer.status_code, answer.headers.get("X-Error-Code", "")
                outcome = _outcome(status, code)
            except httpx.ConnectError:
                outcome = "refused"  # nobody was there
            except httpx.HTTPError as error:
                outcome, code = "unknown", type(error).__name__
            maybe |= outcome == "unknown" or status == 409
            if outcome == "confirmed" or not (self._keys and maybe) or self._ending.is_set():
                break
            number += 1
            self._ending.wait(0.2)
        if outcome == "refused" and maybe:
            outcome = "unknown"
        self.confirmed += outcome == "confirmed"
        self.journal.answered(value, outcome, status, code)
        if status == 0:
            self._ending.wait(0.2)


def _outcome(status: int, code: str) -> str:
    if 200 <= status < 300:
        return "confirmed"
    if 400 <= status < 500 or (status == 503 and code in NEVER_SENT):
        return "refused"
    return "unknown"


class Records(_Threads):
    """A plain producer, for scenarios about consumers: confirmed by the brokers themselves. A client a partition."""

    def __init__(
        self,
        journal: Journal,
        bootstrap: str,
        topic: str,
        *,
        seed: str,
        partitions: int,
        rate: int = 100,
        poison: int = 0,
        size: int = 0,
        headers: int = 0,
    ) -> None:
        """rate: a second and partition. size: bytes that a value has at least. headers: how many, of 120 bytes each."""
        super().__init__(journal, seed, partitions)
        self._topic = topic
        self._rate = rate
        self._size = size
        self._headers: list[tuple[str, str | bytes | None]] = [(f"header {n}", b"x" * 120) for n in range(headers)]
        self._poison = poison
        self._producer = Producer(
            {"bootstrap.servers": bootstrap, "enable.idempotence": True, "linger.ms": 5, "log_level": 0}
        )

    def __exit__(self, *raised: object) -> None:
        super().__exit__(*raised)
        self._producer.flush(60)

    def _client(self, client: int) -> None:
        draw = random.Random(f"{self._seed}/{client}")
        number = 0
        while not self._ending.wait(1 / self._rate):
            value = self.value(draw, client, number)
            if self._poison and draw.randrange(self._poison) == 0:
                value += ".poison"
            with self._turns[client]:
                self.send(value.ljust(self._size, "-"), client, number)
                self._producer.poll(0)
            number += 1

    def send(self, value: str, partition: int, number: int) -> None:
        self.journal.sent(value, f"{self._seed}/{partition}", number)
        told = self._told(value)
        self._producer.produce(self._topic, value, partition=partition, headers=self._headers or None, on_delivery=told)

    def _told(self, value: str) -> Callable[[KafkaError | None, Message], None]:
        def told(error: KafkaError | None, message: Message) -> None:
            self.confirmed += error is None
            self.journal.answered(value, "confirmed" if error is None else "unknown", 0, str(error or ""))

        return told
