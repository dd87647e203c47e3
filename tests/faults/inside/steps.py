"""Named steps of the product at which a process dies, stops, sleeps or fails, when a test has armed one.

`arm` (the test's side) writes a file; the first process that comes to the step takes the file away and acts, so that one
armed step acts once, in whichever process comes first.
"""

import contextlib
import inspect
import os
import signal
import time
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any


class Armed:
    """The test's side. folder: FAULTS_STEPS of the processes."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def arm(self, step: str, action: str) -> None:
        """action: kill, stop, sleep <seconds>, full (no space left), short (a short write), or fail."""
        (self._folder / f"{step}.taken").unlink(missing_ok=True)
        (self._folder / f"{step}.new").write_text(action)
        (self._folder / f"{step}.new").rename(self._folder / step)

    def taken_by(self, step: str) -> int:
        """The process that has come to the step; 0: none yet."""
        path = self._folder / f"{step}.taken"
        text = path.read_text() if path.exists() else ""
        return int(text) if text.strip().isdigit() else 0

    def disarm(self) -> None:
        for path in self._folder.iterdir():
            path.unlink()


def reach(step: str) -> str:
    """Act, if the step is armed; gives the action, for those that the caller has to take."""
    folder = os.environ.get("FAULTS_STEPS")
    if not folder:
        return ""
    armed = Path(folder) / step
    mine = armed.with_name(f"{step}.{os.getpid()}")
    try:
        armed.rename(mine)
    except FileNotFoundError:
        return ""
    action = mine.read_text()
    mine.write_text(str(os.getpid()))
    mine.rename(armed.with_name(f"{step}.taken"))
    match action.split():
        case ["kill"]:
            os.kill(os.getpid(), signal.SIGKILL)
        case ["stop"]:
            signal.raise_signal(
                signal.SIGSTOP
            )  # of this thread, so that it does nothing more; os.kill may take a while
        case ["sleep", seconds]:
            time.sleep(float(seconds))
    return action


def watch() -> None:
    """Put the steps into the product's functions, by their names."""
    from tk.store import Store
    from tkcons import deadletters, positions
    from tkcons.call import Call
    from tkcons.session import Session
    from tkcons.sinks import database, file, handler, ledger

    _around(database.DatabaseSink, "write", "database.begun", "database.committed")
    _around(positions, "advance", "", "position.moved")
    _around(database, "_copy", "", "database.written")
    _around(database, "_insert", "", "database.written")
    _around(ledger.Ledger, "record", "", "file.recorded")
    _around(file.FileSink, "write", "file.begun", "file.committed")
    _around(Call, "__call__", "handler.begun", "handler.called")
    _around(handler.HandlerSink, "_call_in_transaction", "", "handler.committed")
    _around(deadletters, "send", "letter.made", "letter.sent")
    _around(deadletters, "store", "", "letter.stored")
    _around(handler.HandlerSink, "_fail", "", "letter.committed")
    _around(Session, "_commit", "offsets.begun", "offsets.committed")
    _around(Session, "_leave", "leaving.begun", "")
    _around(Store, "mark", "relay.acknowledged", "relay.marked")
    put(file, "os", _Os())


def put(owner: Any, name: str, value: Any) -> None:
    """Replace what is there. Raises AttributeError or TypeError where the product names or calls it otherwise by now."""
    real = getattr(owner, name)
    if inspect.isfunction(real):
        taken = inspect.signature(real).parameters.values()
        named = {each.name: None for each in taken if each.kind is each.KEYWORD_ONLY}
        inspect.signature(value).bind(*(each for each in taken if each.name not in named), **named)
    setattr(owner, name, value)


def _around(owner: Any, name: str, before: str, after: str) -> None:
    real: Callable[..., Any] = getattr(owner, name)

    @wraps(real)
    def stepping(*arguments: Any, **options: Any) -> Any:
        if before:
            reach(before)
        answer = real(*arguments, **options)
        if after:
            reach(after)
        return answer

    put(owner, name, stepping)


class _Os:
    """The module os as the file sink sees it."""

    def __getattr__(self, name: str) -> Any:
        return getattr(os, name)

    def write(self, number: int, data: Any) -> int:
        match reach("file.write"):
            case "full":
                with contextlib.suppress(OSError):
                    os.write(number, data[: len(data) // 2])
                raise OSError(28, "No space left on device")
            case "short":
                return os.write(number, data[: max(1, len(data) // 3)])
        return os.write(number, data)

    def fsync(self, number: int) -> None:
        if reach("file.appended") == "fail":
            raise OSError(5, "Input/output error")
        os.fsync(number)
        reach("file.synced")
