"""A newcomer's first minutes, from a fresh clone: two commands, three addresses, and what survives."""

import base64
import os
import subprocess
import time
from pathlib import Path

import pytest
from psutil import wait_procs

from tests.acceptance.newcomer import Copy, free_port
from tests.waiting import eventually

pytestmark = [pytest.mark.acceptance, pytest.mark.kafka, pytest.mark.timeout(400)]


def test_make_run(copy: Copy):
    began = time.monotonic()
    copy.start()
    shown = "\n".join(copy.output)
    for address in ("/tkcons/read", "/tkcons", "/tkprod?message=hello"):
        assert f"http://localhost:{copy.port}{address}" in shown
    assert "curl" in shown

    # The three addresses.
    answer = copy.get("/tkprod?message=hello")
    assert (answer.status_code, answer.text) == (200, "Produced message.")
    copy.lines_are(1)
    assert time.monotonic() - began < 180  # cold
    for _ in range(3):
        assert copy.get("/tkcons").text == "Started consumer"
    first = copy.text()
    assert first.startswith("ConsumerRecord(topic='sample-topic', partition=0, offset=0, timestamp=")
    assert "value=b'hello'" in first
    assert (copy.data / "consumed_messages.txt").read_text() == first
    assert copy.get("/admin/").headers["location"].startswith("/admin/login/")

    # A message of each kind.
    assert copy.get("/tkprod/?message=gr%C3%BC%C3%9Fe%20%F0%9F%8E%89").text == "Produced message."
    for body in (b"x" * 1_048_576, b"\x00\xff", b"<script>alert(1)</script>\n"):
        answer = copy.http.post("/tkprod", content=body, headers={"content-type": "application/octet-stream"})
        assert answer.text == "Produced message."
    for fields in ({"message": None, "key": "k"}, {"message": "v", "key": "k", "headers": {"a": "b"}}):
        answer = copy.http.post("/tkprod", json=fields, headers={"accept": "application/json"})
        assert set(answer.json()) == {"topic", "partition", "offset", "timestamp"}
    kinds = ["hello", "grüße 🎉", "x" * 1_048_576, base64.b64encode(b"\x00\xff").decode()]
    kinds += ["<script>alert(1)</script>\n", None, "v"]
    copy.stored_is(*kinds)
    assert copy.stored()[3]["encoding"] == "base64"
    assert copy.stored()[6] | {"timestamp": 0} == {
        "topic": "sample-topic",
        "partition": 0,
        "offset": 6,
        "timestamp": 0,
        "key": "k",
        "value": "v",
        "headers": [{"name": "a", "value": "b"}],
    }
    copy.lines_are(7)
    assert "<script>" not in copy.text()
    page = copy.get("/tkcons/read", accept="text/html").text
    assert "grüße 🎉" in page
    assert "<script>alert" not in page
    panel = copy.get("/tkcons", accept="text/html")
    assert "Started consumer" in panel.text

    # A part that dies comes back.
    consumer = copy.part("consume")
    consumer.kill()
    copy.get("/tkprod?message=after-the-kill")
    copy.stored_is(*kinds, "after-the-kill")
    copy.lines_are(8)
    assert copy.part("consume").pid != consumer.pid
    assert any("consumer" in line and "ended by signal SIGKILL" in line for line in copy.output)
    workers = copy.part("granian").children()
    copy.part("granian").kill()
    eventually(lambda: copy.part("granian").children() not in ([], workers))
    copy.soon(lambda: copy.get("/healthz"))
    assert wait_procs(workers, 5)[1] == []
    assert copy.text().count("<br>") == 8  # a restarted worker is no start: nothing is cleared
    copy.part("kafka.Kafka").kill()
    copy.soon(lambda: copy.get("/tkprod?message=after-the-brokers-end").status_code == 200)
    copy.soon(lambda: copy.stored()[-1]["value"] == "after-the-brokers-end")
    before = copy.stored()

    # Ctrl-C ends it all; the second start keeps topics and messages, and clears the file.
    assert copy.ctrl_c() == 0, copy.output[-20:]
    began = time.monotonic()
    copy.start()
    assert copy.text() == ""
    assert copy.stored() == before
    copy.get("/tkprod?message=second")
    copy.lines_are(1)
    assert time.monotonic() - began < 20  # warm
    eventually(lambda: len(copy.stored()) == len(before) + 1)
    assert copy.stored()[-1]["offset"] == before[-1]["offset"] + 1

    # The supervisor itself is killed: nothing outlives it.
    family = copy.family
    next(process for process in family if "runall" in process.cmdline()).kill()
    assert wait_procs(family, 15)[1] == []


def test_two_copies_side_by_side_and_taken_ports(copy: Copy, clone, environment, tmp_path):
    other = Copy(clone, environment, tmp_path / "other")
    try:
        copy.start()
        other.start()
        copy.get("/tkprod?message=one")
        other.get("/tkprod?message=other")
        copy.stored_is("one")
        other.stored_is("other")
        assert other.ctrl_c() == 0
        for port, kafka_port, words in (
            (copy.port, free_port(), f"Port {copy.port} is taken"),
            (free_port(), copy.kafka_port, f"Port {copy.kafka_port} is taken by another Kafka"),
        ):
            other.port, other.kafka_port = port, kafka_port
            other.start(wait=False)
            eventually(lambda: other.ended, 60)
            assert other.process.returncode != 0
            (said,) = [line for line in other.output if "is taken" in line]
            assert words in said
            assert "make run" in said
            assert not any("Traceback" in line for line in other.output)
    finally:
        other.kill()


def test_by_hand_as_in_the_tutorial(copy: Copy):
    """manage.py runkafka, migrate, runserver: and /tkcons starts the consumer in the background."""
    python = str(Path(copy.clone) / ".venv" / "bin" / "python")
    if not Path(python).exists():
        subprocess.run(["python3", "run.py", "venv"], cwd=copy.clone, env=copy.environment, check=True)
    copy.environment = {
        **copy.environment,
        "DATA": str(copy.data),
        "KAFKA_BROKER_URL": f"localhost:{copy.kafka_port}",
        "PYTHONUNBUFFERED": "1",
    }
    broker = Copy(copy.clone, copy.environment, copy.data)
    try:
        broker.spawn([python, "manage.py", "runkafka", "--port", str(copy.kafka_port)])
        eventually(lambda: any("is ready" in line for line in broker.output) or broker.ended, 60)
        assert not broker.ended, broker.output
        subprocess.run([python, "manage.py", "migrate", "-v0"], cwd=copy.clone, env=copy.environment, check=True)
        server = [python, "manage.py", "runserver", str(copy.port)]
        copy.spawn(server)
        copy.soon(lambda: copy.get("/healthz"))
        assert copy.get("/tkprod?message=hello").text == "Produced message."
        assert copy.text() == ""  # nothing consumes before somebody clicks
        for _ in range(5):
            assert copy.get("/tkcons").text == "Started consumer"
        copy.lines_are(1)
        copy.stored_is("hello")
        groups = copy.get("/tkcons/status").json()["groups"]
        assert [len(group["members"]) for group in groups] == [1, 1]

        assert copy.get("/tkcons/stop").text == "Stopped consumer"
        eventually(lambda: not any(group["members"] for group in _groups(copy)))
        copy.get("/tkprod?message=while-stopped")
        time.sleep(1)
        assert [message["value"] for message in copy.stored()] == ["hello"], _groups(copy)
        copy.get("/tkcons")
        copy.stored_is("hello", "while-stopped")
        copy.lines_are(2)

        # The autoreloader restarts the child: no start of the server, and the consumer goes on.
        os.utime(copy.clone / "tutorialkafka" / "urls.py")
        eventually(lambda: any("changed, reloading" in line for line in copy.output), 30)
        eventually(lambda: len([line for line in copy.output if "Starting development server" in line]) == 2, 60)
        copy.soon(lambda: copy.get("/tkprod?message=after-the-reload").status_code == 200)
        copy.stored_is("hello", "while-stopped", "after-the-reload")
        copy.lines_are(3)

        # Other commands clear nothing; a new start does.
        subprocess.run([python, "manage.py", "check"], cwd=copy.clone, env=copy.environment, check=True)
        copy.lines_are(3)
        copy.interrupt()
        copy.spawn(server)
        copy.soon(lambda: copy.get("/healthz"))
        copy.lines_are(0)
        copy.get("/tkprod?message=new-start")
        copy.lines_are(1)  # the desired state was running: it resumed
        copy.stored_is("hello", "while-stopped", "after-the-reload", "new-start")
        copy.interrupt()
        assert broker.interrupt() == 0
    finally:
        broker.kill()


def _groups(copy: Copy) -> list[dict]:
    return copy.get("/tkcons/status").json()["groups"]
