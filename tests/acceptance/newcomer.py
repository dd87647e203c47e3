"""One running copy of the product, driven from outside: processes, HTTP and the files it keeps."""

import contextlib
import json
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
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


# Runs a command on a terminal of its own; what is written to it is typed there.
TERMINAL = "import os, pty, sys; sys.exit(os.waitstatus_to_exitcode(pty.spawn(sys.argv[1:])))"


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
        command = [
            sys.executable,
            "-c",
            TERMINAL,
            "make",
            "run",
            f"PORT={self.port}",
            f"KAFKA_PORT={self.kafka_port}",
            f"DATA={self.data}",
        ]
        self.spawn(command)
        if wait:
            eventually(lambda: self.ready or self.ended, seconds)
            assert self.ready, "\n".join(self.output)

    def spawn(self, command: list[str]) -> None:
        self._close()
        self.output = []
        self.process = subprocess.Popen(
            command,
            cwd=self.clone,
            env=self.environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self._reader = threading.Thread(target=self._read, args=(self.process, self.output), daemon=True)
        self._reader.start()

    def _close(self) -> None:
        """Let the last process's pipes go."""
        if self.process is not None:
            assert self.process.stdin is not None
            with contextlib.suppress(BrokenPipeError):
                self.process.stdin.close()
            self.process.wait(10)
            self._reader.join(10)

    def _read(self, process: subprocess.Popen[str], output: list[str]) -> None:
        assert process.stdout is not None
        with process.stdout as stream:
            for line in stream:  # one by one: others look meanwhile
                output.append(line.rstrip())  # noqa: PERF401

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
        """Type Ctrl-C; give the exit code. No process may be left."""
        assert self.process is not None
        assert self.process.stdin is not None
        family = self.family
        self.process.stdin.write("\x03")
        self.process.stdin.flush()
        return self._end(family)

    def interrupt(self) -> int:
        """SIGINT to the process itself, where it has no terminal; give the exit code. No process may be left."""
        assert self.process is not None
        family = self.family
        self.process.send_signal(signal.SIGINT)
        return self._end(family)

    def _end(self, family: list[psutil.Process]) -> int:
        assert self.process is not None
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
        self._close()
        self.http.close()

    def get(self, path: str, **headers: str) -> httpx.Response:
        return self.http.get(path, headers=headers)

    def stored(self) -> list[dict[str, Any]]:
        """Everything in the store, as JSON Lines tell it."""
        return [json.loads(line) for line in self.get("/tkcons/read?format=jsonl").text.splitlines()]

    def text(self) -> str:
        """The tutorial's file, as curl sees it."""
        return self.get("/tkcons/read").text

    def soon(self, look: Callable[[], Any], seconds: float = 60) -> Any:
        """Until the answer is true; a server that restarts just now is asked again."""

        def asked() -> Any:
            try:
                return look()
            except httpx.HTTPError:
                return None

        return eventually(asked, seconds)

    def stored_is(self, *values: str | None) -> None:
        self.soon(lambda: [message["value"] for message in self.stored()] == list(values))

    def lines_are(self, count: int) -> None:
        self.soon(lambda: self.text().count("<br>\n") == count)
