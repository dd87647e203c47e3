"""One running copy of the product, driven from outside: processes, HTTP and the files it keeps."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import threading
from pathlib import Path
from typing import Any

import httpx
import psutil

from tests.waiting import eventually

ROOT = Path(__file__).parents[2]


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port: int = listening.getsockname()[1]
        return port


class Copy:
    """`make run` in a clone. `output`: the lines it has shown."""

    def __init__(self, clone: Path, environment: dict[str, str], data: Path) -> None:
        self.clone = clone
        self.environment = environment
        self.data = data
        self.port = free_port()
        self.kafka_port = free_port()
        self.output: list[str] = []
        self.process: subprocess.Popen[str] | None = None
        self.http = httpx.Client(base_url=f"http://localhost:{self.port}", timeout=30, trust_env=False)

    def start(self, *, wait: bool = True, seconds: float = 180) -> None:
        command = ["make", "run", f"PORT={self.port}", f"KAFKA_PORT={self.kafka_port}", f"DATA={self.data}"]
        self.spawn(command)
        if wait:
            eventually(lambda: self.ready or self.ended, seconds)
            assert self.ready, "\n".join(self.output)

    def spawn(self, command: list[str]) -> None:
        self.output = []
        self.process = subprocess.Popen(
            command,
            cwd=self.clone,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        threading.Thread(target=self._read, args=(self.process, self.output), daemon=True).start()

    def _read(self, process: subprocess.Popen[str], output: list[str]) -> None:
        with contextlib.suppress(ValueError):  # closed while reading
            output.extend(line.rstrip("\n") for line in process.stdout or ())

    @property
    def ready(self) -> bool:
        return any("Everything runs" in line for line in self.output)

    @property
    def ended(self) -> bool:
        return self.process is not None and self.process.poll() is not None

    @property
    def family(self) -> list[psutil.Process]:
        """Every process of this copy."""
        assert self.process is not None
        root = psutil.Process(self.process.pid)
        return [root, *root.children(recursive=True)]

    def part(self, *words: str) -> psutil.Process:
        """The process whose command line has these words."""

        def find() -> psutil.Process | None:
            for process in self.family:
                with contextlib.suppress(psutil.Error):
                    if all(word in process.cmdline() for word in words):
                        return process
            return None

        return eventually(find)

    def ctrl_c(self) -> int:
        """Ctrl-C as a terminal sends it: to the whole foreground group. Gives the exit code; nothing may be left."""
        assert self.process is not None
        family = self.family
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGINT)
        code = self.process.wait(60)
        assert psutil.wait_procs(family, 10)[1] == []
        return code

    def kill(self) -> None:
        if self.process is not None and not self.ended:
            family = self.family
            for process in family:
                with contextlib.suppress(psutil.Error):
                    process.kill()
            psutil.wait_procs(family, 10)
        self.http.close()

    def get(self, path: str, **headers: str) -> httpx.Response:
        return self.http.get(path, headers=headers)

    def stored(self) -> list[dict[str, Any]]:
        """Everything in the store, as JSON Lines tell it."""
        return [json.loads(line) for line in self.get("/tkcons/read?format=jsonl").text.splitlines()]

    def text(self) -> str:
        """The tutorial's file, as curl sees it."""
        return self.get("/tkcons/read").text

    def stored_is(self, *values: str | None) -> None:
        eventually(lambda: [message["value"] for message in self.stored()] == list(values))

    def lines_are(self, count: int) -> None:
        eventually(lambda: self.text().count("<br>\n") == count)
