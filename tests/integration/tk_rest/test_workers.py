"""Under granian with two workers: an instance lives in one of them, and leaves its group when the server ends."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from confluent_kafka import ConsumerGroupState

from tests.acceptance.newcomer import free_port
from tests.integration.tk_rest.conftest import JSON, V2
from tests.waiting import eventually

pytestmark = pytest.mark.kafka

ROOT = Path(__file__).parents[3]


@pytest.fixture
def server(broker, tmp_path) -> Iterator[tuple[str, subprocess.Popen]]:
    port = free_port()
    env = {**os.environ, "DATA": str(tmp_path), "DJANGO_DEBUG": "1", "KAFKA_BROKER_URL": broker}
    env |= {"CONSUMER_PROCESS": "1", "DJANGO_SETTINGS_MODULE": "tutorialkafka.settings"}
    command = [sys.executable, "-m", "granian", "--interface", "asgi", "--workers", "2", "--port", str(port)]
    with (tmp_path / "log").open("w") as log:
        process = subprocess.Popen(
            [*command, "tutorialkafka.asgi:application"], cwd=ROOT, env=env, stdout=log, stderr=log
        )
    try:
        yield f"http://127.0.0.1:{port}/rest", process
    finally:
        process.kill()
        process.wait()


def _client(site: str) -> httpx.Client:
    return httpx.Client(base_url=site, timeout=30, trust_env=False, headers={"content-type": V2})


def _up(site: str) -> bool:
    try:
        with _client(site) as client:
            return client.get("/brokers").status_code == 200
    except httpx.HTTPError:
        return False


def test_produce_consume_commit_resume(server, topic, group, kafka_admin):
    site, process = server
    eventually(lambda: _up(site), 60)
    with _client(site) as client:  # one connection, one worker
        records = {"records": [{"value": {"n": n}} for n in range(5)]}
        assert client.post(f"/topics/{topic}", json=records, headers={"content-type": JSON}).status_code == 200
        made = client.post(f"/consumers/{group}", json={"format": "json", "auto.offset.reset": "earliest"}).json()
        assert made["base_uri"].startswith(f"{site}/consumers/{group}/instances/")
        path = made["base_uri"].removeprefix(site)
        assert client.post(f"{path}/subscription", json={"topics": [topic]}).status_code == 204
        found: list[int] = []

        def read() -> bool:
            answer = client.get(f"{path}/records?max_bytes=20", headers={"accept": JSON})
            found.extend(each["value"]["n"] for each in answer.json())
            return len(found) >= 4

        eventually(read)
        assert client.post(f"{path}/offsets").json() == []
        seen = set()

        def ask() -> bool:
            with _client(site) as other:
                answer = other.get(f"{path}/subscription")
                seen.add(200 if answer.status_code == 200 else answer.json()["error_code"])
            return seen == {200, 40403}

        eventually(ask)
    process.send_signal(signal.SIGTERM)
    assert process.wait(30) == 0
    state = kafka_admin.describe_consumer_groups([group])[group].result(timeout=10).state
    assert state == ConsumerGroupState.EMPTY  # nobody waits for a session timeout
    assert found[:4] == [0, 1, 2, 3]
