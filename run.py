#!/usr/bin/env python3
"""Make the environment in .venv and run tutorialkafka in it. Needs Python alone; `make` calls it too.

    python3 run.py                  run everything (what `make run` does)
    python3 run.py test [ARG ...]   the tests; ARGs go to pytest
    python3 run.py venv             make the environment with the tools for development, and stop

This file is readable to old interpreters, so that they can say which one is needed.
"""

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys

LOWEST, HIGHEST = (3, 11), (3, 14)
ROOT = os.path.dirname(os.path.abspath(__file__))
VENV = os.path.join(ROOT, ".venv")
PYTHON = os.path.join(VENV, "bin", "python")
# The whole suite waits for half of its time: two processes, each with a broker, a database and a browser of its own.
WHOLE = ["--numprocesses", "2", "--dist", "loadfile"]


def failure(text):
    """What to raise: the text on standard error, exit code 1."""
    return SystemExit(text)


def fits(version):
    return LOWEST <= tuple(version[:2]) <= HIGHEST


def find_python():
    """The newest Python that fits: the one that runs this, if it does, else one on the PATH."""
    if fits(sys.version_info):
        return sys.executable
    for minor in range(HIGHEST[1], LOWEST[1] - 1, -1):
        path = shutil.which("python3.%d" % minor)
        if path and subprocess.call([path, "-c", ""], stderr=subprocess.DEVNULL) == 0:
            return path
    raise failure(
        "tutorialkafka needs Python %d.%d to %d.%d; this is %d.%d, and no other was found.\n"
        "Install one of them (Debian: apt-get install python3; macOS: brew install python@3.13) and try again."
        % (LOWEST + HIGHEST + tuple(sys.version_info[:2]))
    )


def make_venv(python):
    """A virtual environment with pip. Debian's python3 may lack ensurepip: then the system's pip installs into it."""
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    if subprocess.call([python, "-m", "venv", "--clear", VENV], **quiet) == 0:
        return [PYTHON, "-m", "pip"]
    if subprocess.call([python, "-m", "venv", "--clear", "--without-pip", VENV], **quiet) == 0:
        if subprocess.call([python, "-m", "pip", "--version"], **quiet) == 0:
            return [python, "-m", "pip", "--python", PYTHON]
    shutil.rmtree(VENV, ignore_errors=True)
    raise failure("Python's venv module is missing or incomplete. Debian and Ubuntu: apt-get install python3-venv")


def install(lock):
    """Bring .venv to what the lock says. Two runs that start together in one checkout take turns."""
    with open(os.path.abspath(__file__)) as turn:
        try:
            fcntl.flock(turn, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except IOError:
            sys.stderr.write("Another run installs the Python packages; waiting for it\n")
            fcntl.flock(turn, fcntl.LOCK_EX)
        bring(lock)


def bring(lock):
    """Nothing to do when the installation was completed for the same lock before."""
    # dev.txt contains run.txt: an environment for development serves both.
    for stamp in (lock, "dev"):
        try:
            with open(os.path.join(VENV, "installed-" + stamp)) as file:
                if file.read() == digest(stamp) and has_python():  # pip may be the system's
                    return
        except IOError:
            pass
    for stamp in ("run", "dev"):  # an installation that breaks off is none
        try:
            os.remove(os.path.join(VENV, "installed-" + stamp))
        except OSError:
            pass
    python = find_python()
    sys.stderr.write("Installing the Python packages into .venv (once)\n")
    pip = [PYTHON, "-m", "pip"]
    if not (has_python() and answers([*pip, "--version"])):
        pip = make_venv(python)
    options = ["--quiet", "--disable-pip-version-check", "--require-hashes", "--only-binary", ":all:"]
    if subprocess.call([*pip, "install", *options, "-r", locked(lock)]) != 0:
        raise failure(
            "The packages could not be installed; pip's words are above. With a way to the package index, try again."
        )
    with open(os.path.join(VENV, "installed-" + lock), "w") as file:
        file.write(digest(lock))


def locked(lock):
    return os.path.join(ROOT, "requirements", lock + ".txt")


def digest(lock):
    with open(locked(lock), "rb") as file:
        return hashlib.sha256(file.read()).hexdigest()


def has_python():
    """Whether .venv has a Python that fits."""
    return answers([PYTHON, "-c", "import sys; sys.exit(not %r <= sys.version_info[:2] <= %r)" % (LOWEST, HIGHEST)])


def answers(command):
    """Whether the command can be run, and ends well."""
    try:
        return subprocess.call(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) == 0
    except OSError:
        return False


def main(arguments):
    os.chdir(ROOT)
    what = arguments[0] if arguments else "run"
    if what == "run":
        install("run")
        os.environ["TUTORIALKAFKA_CHECKOUT"] = "1"
        command = [PYTHON, "manage.py", "runall", *arguments[1:]]
    elif what == "test":
        install("dev")
        command = [PYTHON, "-m", "pytest", *(arguments[1:] or WHOLE)]
    elif what == "venv":
        install("dev")
        return
    else:
        raise failure("python3 run.py [run | test [ARG ...] | venv]")
    os.execv(command[0], command)


if __name__ == "__main__":
    main(sys.argv[1:])
