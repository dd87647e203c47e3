"""The same answers from every server that the documentation names."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from tests.acceptance.newcomer import free_port
from tests.waiting import eventually

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(120)]

ROOT = Path(__file__).parents[2]
PYTHON = sys.executable
SERVERS = {
    "granian": [PYTHON, "-m", "granian", "--interface", "asgi", "--port", "PORT", "tutorialkafka.asgi:application"],
    "uvicorn": [PYTHON, "-m", "uvicorn", "--port", "PORT", "tutorialkafka.asgi:application"],
    "gunicorn": [
        PYTHON,
        "-m",
        "gunicorn",
        "--bind",
        "127.0.0.1:PORT",
        "--threads",
        "4",
        "tutorialkafka.wsgi:application",
    ],
    "runserver": [PYTHON, "manage.py", "runserver", "--noreload", "PORT"],
}


class Site(httpx.Client):
    """A client of a running server. pid: the server's; env: its environment, for commands beside it."""

    pid = 0
    env: dict[str, str]


@contextmanager
def serving(
    name: str, broker: str, topic: str, data: Path, *, options: Sequence[str] = (), **more: str
) -> Iterator[Site]:
    """The project on one of SERVERS, until the block's end; more: environment variables."""
    port = free_port()
    data.mkdir(exist_ok=True)
    env = {
        **os.environ,
        "DATA": str(data),
        "DJANGO_DEBUG": "1",
        "KAFKA_BROKER_URL": broker,
        "CONSUME_TOPIC": topic,
        "DJANGO_SETTINGS_MODULE": "tests.settings_server",
        "TUTORIALKAFKA_START": "start",
        **more,
    }
    subprocess.run([PYTHON, "manage.py", "migrate", "-v0"], cwd=ROOT, env=env, check=True)
    command = [part.replace("PORT", str(port)) for part in [*SERVERS[name], *options]]
    with (data / "log").open("w") as log:
        server = subprocess.Popen(command, cwd=ROOT, env=env, stdout=log, stderr=log)
    with Site(base_url=f"http://127.0.0.1:{port}", timeout=20, trust_env=False) as client:
        client.pid, client.env = server.pid, env
        try:
            eventually(lambda: _answers(client, more.get("SCRIPT_NAME", "")), 30)
            yield client
            server.send_signal(signal.SIGTERM)
            assert server.wait(30) in {0, -signal.SIGTERM}, (data / "log").read_text()
        finally:
            server.kill()
            server.wait()


@pytest.fixture(params=SERVERS)
def site(request, broker, topic, tmp_path) -> Iterator[Site]:
    with serving(request.param, broker, topic, tmp_path) as client:
        yield client


def _answers(client: httpx.Client, prefix: str) -> bool:
    try:
        return client.get(f"{prefix}/healthz").status_code == 200
    except httpx.HTTPError:
        return False


def test_from_a_request_to_the_file_and_the_store(site: httpx.Client):
    assert site.get("/readyz").json() == {"kafka": "ok", "database": "ok"}
    assert site.get("/tkprod?message=gr%C3%BC%C3%9Fe").text == "Produced message."
    assert site.post("/tkprod/", content=b"x" * 1_000_000, headers={"content-type": "text/plain"}).status_code == 200
    refused = site.get("/tkprod?message=%ff", headers={"accept": "application/json"})
    assert (refused.status_code, refused.json()["code"]) == (400, "bad_encoding")
    assert site.get("/tkprod?message=a", headers={"sec-fetch-site": "cross-site"}).status_code == 403
    unreadable = {"content-type": "text/plain; charset*=none''x"}
    assert site.post("/tkprod", content=b"x", headers=unreadable).status_code == 415
    assert site.post("/rest/topics/none", content=b"x", headers=unreadable).status_code == 415
    assert site.put("/tkprod?message=a").headers["allow"] == "POST"
    for _ in range(3):
        assert site.get("/tkcons").text == "Started consumer"
    eventually(lambda: site.get("/tkcons/read").text.count("<br>\n") == 2, 30)
    eventually(lambda: site.get("/tkcons/read?format=jsonl").text.count("\n") == 2)
    assert "grüße" in site.get("/tkcons/read", headers={"accept": "text/html"}).text
    members = [group["members"] for group in site.get("/tkcons/status").json()["groups"]]
    assert [len(each) for each in members] == [1, 1]
    assert site.get("/assets/tkcons/style.css").headers["content-type"].startswith("text/css")
