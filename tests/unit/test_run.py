"""run.py on machines that lack something: what it does, or the line that says what to install."""

import fcntl
import importlib.util
import threading
from pathlib import Path
from types import ModuleType

import pytest

PATH = Path(__file__).parents[2] / "run.py"


@pytest.fixture
def run(tmp_path, monkeypatch) -> ModuleType:
    spec = importlib.util.spec_from_file_location("run", PATH)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "VENV", str(tmp_path / ".venv"))
    monkeypatch.setattr(module, "PYTHON", str(tmp_path / ".venv" / "bin" / "python"))
    return module


@pytest.fixture
def calls(run, monkeypatch) -> dict[str, int]:
    """What subprocess.call answers, by a word in the command; and what was called, under "called"."""
    answers: dict = {"called": []}

    def call(command, **options) -> int:
        answers["called"].append(command)
        return next((code for word, code in answers.items() if word in command), 0)

    monkeypatch.setattr(run.subprocess, "call", call)
    return answers


def test_another_python_on_the_path_is_taken(run, monkeypatch, calls):
    monkeypatch.setattr(run.sys, "version_info", (3, 9, 2))
    monkeypatch.setattr(run.shutil, "which", lambda name: "/some/python3.13" if name == "python3.13" else None)
    assert run.find_python() == "/some/python3.13"


@pytest.mark.parametrize("version", [(3, 9, 2), (3, 15, 0)])
def test_without_a_fitting_python_it_says_which_to_install(run, monkeypatch, version):
    monkeypatch.setattr(run.sys, "version_info", version)
    monkeypatch.setattr(run.shutil, "which", lambda name: None)
    with pytest.raises(SystemExit, match=r"needs Python 3\.11 to 3\.14; this is 3\.\d+"):
        run.find_python()


def test_without_ensurepip_the_systems_pip_installs(run, calls, monkeypatch):
    def call(command, **options) -> int:
        return int("venv" in command and "--without-pip" not in command)

    monkeypatch.setattr(run.subprocess, "call", call)
    assert run.make_venv("python3") == ["python3", "-m", "pip", "--python", run.PYTHON]


def test_without_venv_and_pip_it_names_the_package(run, calls):
    calls["-m"] = 1
    with pytest.raises(SystemExit, match="apt-get install python3-venv"):
        run.make_venv("python3")


def test_an_installation_is_done_once_for_a_lock(run, calls, tmp_path):
    (tmp_path / ".venv").mkdir()
    run.install("run")
    (install,) = [command for command in calls["called"] if "install" in command]
    assert {"--require-hashes", "--only-binary", ":all:"} <= set(install)
    calls["called"].clear()
    run.install("run")
    assert _installs(calls) == []
    run.install("dev")  # more than run: done again
    assert len(_installs(calls)) == 1
    calls["called"].clear()
    run.install("run")  # dev contains it
    assert _installs(calls) == []


def _installs(calls) -> list:
    return [command for command in calls["called"] if "install" in command]


def test_an_environment_whose_python_is_gone_is_made_again(run, calls, tmp_path, monkeypatch):
    (tmp_path / ".venv").mkdir()
    run.install("run")
    calls["called"].clear()
    monkeypatch.setattr(run, "has_python", lambda: False)
    run.install("run")
    assert len(_installs(calls)) == 1
    assert any("venv" in command for command in calls["called"])


def test_an_environment_without_a_pip_of_its_own_is_kept(run, calls, tmp_path):
    """As on a Debian without ensurepip, where the system's pip has installed into it."""
    (tmp_path / ".venv").mkdir()
    run.install("run")
    calls["called"].clear()
    calls["--version"] = 1
    run.install("run")
    assert _installs(calls) == []


def test_an_installation_that_broke_off_is_done_again(run, calls, tmp_path):
    (tmp_path / ".venv").mkdir()
    run.install("run")
    (tmp_path / ".venv" / "installed-run").write_text("another lock")
    calls["install"] = 1
    with pytest.raises(SystemExit, match="could not be installed"):
        run.install("run")
    assert not (tmp_path / ".venv" / "installed-run").exists()


def test_the_locks_name_no_registry():
    for lock in (PATH.parent / "requirements").glob("*.txt"):
        text = lock.read_text()
        assert "://" not in text
        assert "--index" not in text
        assert text.count("--hash=sha256:") > 100


def test_two_runs_in_one_checkout_install_one_after_the_other(run, monkeypatch):
    brought = threading.Event()
    monkeypatch.setattr(run, "bring", lambda lock: brought.set())
    second = threading.Thread(target=run.install, args=("run",))
    with PATH.open() as file:
        fcntl.flock(file, fcntl.LOCK_EX)  # the first run
        second.start()
        assert not brought.wait(0.3)
    assert brought.wait(10)
    second.join()
