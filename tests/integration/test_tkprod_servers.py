"""/tkprod on every server that the documentation names: the same answers to the good, the bad and the slow."""

import contextlib
import json
import socket
import subprocess
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx
import psutil
import pytest
from confluent_kafka.admin import NewTopic

from tests.integration.test_servers import PYTHON, ROOT, SERVERS, serving
from tests.waiting import eventually
from tklocal.kafka import Cluster

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(180)]


@pytest.fixture(scope="module", params=SERVERS)
def site(request, kafka, kafka_admin, tmp_path_factory) -> Iterator[httpx.Client]:
    topic = f"test-{uuid.uuid4().hex[:12]}"
    kafka_admin.create_topics([NewTopic(topic, 1, 1)])[topic].result(timeout=10)
    with serving(request.param, kafka.bootstrap, topic, tmp_path_factory.mktemp("site")) as client:
        eventually(lambda: client.get("/tkprod?message=first").status_code == 200)
        yield client


FORM = {"content-type": "application/x-www-form-urlencoded"}
TEXT = {"content-type": "text/plain"}
JSON = {"content-type": "application/json"}
NDJSON = {"content-type": "application/x-ndjson"}


def offset(site: httpx.Client) -> int:
    """Of a message that is produced now."""
    return site.get("/tkprod?message=a", headers={"accept": "application/json"}).json()["offset"]


def code(answer: httpx.Response) -> tuple[int, str | None]:
    return answer.status_code, answer.headers.get("x-error-code")


def test_good_and_bad_input(site):
    assert site.get("/tkprod/?message=gr%C3%BC%C3%9Fe").text == "Produced message."
    assert site.post("/tkprod", content=b"message=a", headers=FORM).text == "Produced message."
    told = site.post("/tkprod", content=b'{"message": [1]}', headers={**JSON, "accept": "application/json"}).json()
    assert told.keys() == {"topic", "partition", "offset", "timestamp"}
    assert code(site.get("/tkprod?message=%00")) == (400, "bad_encoding")
    assert code(site.post("/tkprod", content=b"{" * 100_000, headers=JSON)) == (400, "bad_request")
    assert code(site.post("/tkprod", content=b"\xff", headers=TEXT)) == (400, "bad_encoding")
    assert code(site.post("/tkprod", content=b"a", headers={**TEXT, "content-encoding": "gzip"})) == (
        415,
        "unsupported_media_type",
    )
    assert code(site.get("/tkprod?message=a&topic=no-such")) == (404, "unknown_topic")


def test_other_methods(site):
    for method in ("HEAD", "PUT", "DELETE", "OPTIONS"):
        answer = site.request(method, "/tkprod?message=a")
        assert (answer.status_code, answer.headers["allow"]) == (405, "POST")


def test_who_may(site):
    assert code(site.get("/tkprod?message=a", headers={"sec-fetch-site": "cross-site"})) == (403, "cross_site")
    assert code(site.post("/tkprod?message=a", headers={"origin": "https://evil.example"})) == (403, "cross_site")
    assert code(site.post("/tkprod?message=a", headers={"x-forwarded-for": "1.1.1.1"})) == (401, "unauthenticated")
    assert code(site.post("/tkprod?message=a", headers={"authorization": "Bearer tk_no"})) == (401, "unauthenticated")
    assert site.post("/tkprod?message=a", headers={"host": "evil.example"}).status_code == 400
    make = [PYTHON, "manage.py", "token", "create", "t", "--scope", "tk.produce", "--topic", "other-*"]
    token = subprocess.run(make, cwd=ROOT, env=site.env, check=True, capture_output=True, text=True).stdout.strip()
    bearer = {"authorization": f"Bearer {token}"}
    assert code(site.post("/tkprod?message=a", headers=bearer)) == (403, "forbidden")
    assert code(site.post("/tkprod?message=a&topic=other-1", headers=bearer)) == (404, "unknown_topic")


def test_the_headers_of_security(site):
    for answer in (site.get("/tkprod?message=a"), site.get("/tkprod"), site.get("/healthz")):
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["x-frame-options"] == "DENY"
        assert "default-src 'none'" in answer.headers["content-security-policy"]
        assert answer.headers["referrer-policy"] == "same-origin"


def test_large_bodies(site):
    assert site.post("/tkprod", content=b"x" * 1_048_576, headers=TEXT).status_code == 200
    assert code(site.post("/tkprod", content=b"x" * 1_048_577, headers=TEXT)) == (413, "too_large")
    # The answer may come while the client still sends, and a server may then close the connection.
    with contextlib.suppress(httpx.NetworkError):
        answer = site.post("/tkprod", content=b"x" * 9_000_000, headers={**TEXT, "connection": "close"})
        assert code(answer) == (413, "too_large")
    assert site.get("/tkprod?message=a").status_code == 200


def test_slow_bodies_and_clients_that_go_away(site):
    head = b"POST /tkprod HTTP/1.1\r\nHost: localhost\r\nContent-Type: text/plain\r\nContent-Length: 10\r\n\r\n"
    chunked = head.replace(b"Content-Length: 10", b"Transfer-Encoding: chunked")
    address = (site.base_url.host, site.base_url.port)
    before = offset(site)
    for half in (head + b"abc", chunked + b"3\r\nabc\r\n"):
        with socket.create_connection(address) as gone:
            gone.sendall(half)
    with socket.create_connection(address, timeout=20) as slow:
        slow.sendall(head)
        for piece in (b"abc", b"defg", b"hij"):
            time.sleep(0.2)
            slow.sendall(piece)
        assert slow.recv(65_536).startswith(b"HTTP/1.1 200 ")
    assert offset(site) == before + 2  # half a body is no message


def test_batches(site):
    body = b"".join(b'{"value":"%d","key":"k","headers":{"a":"b"}}\n' % number for number in range(3_000)) + b"nonsense"
    answers = [json.loads(line) for line in site.post("/tkprod", content=body, headers=NDJSON).text.splitlines()]
    assert answers[-1]["summary"] == {"records": 3_001, "produced": 3_000, "failed": 1, "codes": {"bad_request": 1}}
    assert [each["offset"] - answers[0]["offset"] for each in answers[:3_000]] == list(range(3_000))
    assert site.post("/tkprod?lines=1&summary=1", content=b"a\nb", headers=TEXT).json()["produced"] == 2
    assert site.post("/tkprod?summary=1&atomic=1", content=b'[{"value":1}]', headers=JSON).json()["produced"] == 1
    assert code(site.post("/tkprod?atomic=1", content=b"[1]", headers=JSON)) == (400, "bad_request")


def test_a_large_batch_stays_out_of_memory(site):
    """100 MB in, 1,000,000 records, their answers out: neither is ever held whole."""
    line = b"x" * 499 + b"\n"

    def pieces(count: int) -> Iterator[bytes]:
        for _ in range(count):
            yield line * 500

    length = {**TEXT, "content-length": str(250_000 * 40)}
    assert site.post("/tkprod?lines=1", content=pieces(40), headers=length).status_code == 200  # warm
    before = _memory(site.pid)
    length["content-length"] = str(250_000 * 400)
    with site.stream("POST", "/tkprod?lines=1", content=pieces(400), headers=length, timeout=170) as answer:
        last = b""
        for chunk in answer.iter_bytes():
            last = (last + chunk)[-200:]
    assert b'"records":200000,"produced":200000,"failed":0' in last
    assert _memory(site.pid) - before < 60 << 20


def _memory(pid: int) -> int:
    process = psutil.Process(pid)
    return sum(each.memory_info().rss for each in [process, *process.children(recursive=True)])


def test_a_broker_that_hangs_and_one_that_is_down(tmp_path):
    """A full queue is told at once, nothing piles up in memory, and it all works again without a restart."""
    settings = {"TK_SETTINGS": json.dumps({"QUEUE_MESSAGES": 50, "DELIVERY_TIMEOUT": 4.0, "REQUEST_TIMEOUT": 6.0})}
    with (
        Cluster(tmp_path / "kafka", port=0) as cluster,
        serving("granian", cluster.bootstrap, "sample-topic", tmp_path / "site", **settings) as client,
    ):
        eventually(lambda: client.get("/tkprod?message=a").status_code == 200)
        cluster.pause()
        before = _memory(client.pid)
        url, seconds = str(client.base_url.join("/tkprod?message=x")), []

        def ask(_: int) -> tuple[int, str | None]:
            began = time.monotonic()
            answer = httpx.get(url, timeout=30, trust_env=False)
            seconds.append(time.monotonic() - began)
            assert answer.status_code != 503 or answer.headers["retry-after"]
            return code(answer)

        with ThreadPoolExecutor(80) as pool:
            answers = set(pool.map(ask, range(400)))
        assert (503, "queue_full") in answers
        assert answers <= {(503, "queue_full"), (503, "not_sent"), (504, "outcome_unknown")}
        assert max(seconds) < 20
        assert _memory(client.pid) - before < 50 << 20
        cluster.resume()
        eventually(lambda: client.get("/tkprod?message=b").status_code == 200, 30)
        cluster.kill()
        eventually(lambda: client.get("/tkprod?message=c").status_code == 503, 30)
        began = time.monotonic()
        assert code(client.get("/tkprod?message=d")) == (503, "not_sent")
        assert time.monotonic() - began < 6
        cluster.restart()
        cluster.wait()
        eventually(lambda: client.get("/tkprod?message=e").status_code == 200, 30)


@pytest.fixture(scope="module")
def hanging(tmp_path_factory) -> Iterator[Cluster]:
    """A broker of one's own, for it is stopped."""
    with Cluster(tmp_path_factory.mktemp("kafka"), port=0) as cluster:
        yield cluster


@pytest.mark.parametrize("server", SERVERS)
def test_a_full_queue(hanging, tmp_path, server):
    """503 at once, with the time after which to ask again; what is in the queue is unknown in time."""
    given = {"QUEUE_MESSAGES": 2, "DELIVERY_TIMEOUT": 2.0, "REQUEST_TIMEOUT": 3.0, "METADATA_SECONDS": 120.0}
    with serving(server, hanging.bootstrap, "sample-topic", tmp_path, TK_SETTINGS=json.dumps(given)) as client:
        eventually(lambda: client.get("/tkprod?message=a").status_code == 200)
        url = str(client.base_url.join("/tkprod?message=x"))
        hanging.pause()
        try:
            with ThreadPoolExecutor(4) as pool:  # gunicorn has four threads
                answers = list(pool.map(lambda _: httpx.get(url, timeout=30, trust_env=False), range(4)))
        finally:
            hanging.resume()
        refused, others = answers_by_code(answers, "queue_full"), answers_by_code(answers, "outcome_unknown")
        assert (len(refused), len(others)) == (2, 2)
        assert all(answer.status_code == 503 and answer.headers["retry-after"] == "1" for answer in refused)
        assert max(answer.elapsed for answer in refused) < min(answer.elapsed for answer in others)
        eventually(lambda: client.get("/tkprod?message=b").status_code == 200, 30)


def answers_by_code(answers: list[httpx.Response], code: str) -> list[httpx.Response]:
    return [answer for answer in answers if answer.headers.get("x-error-code") == code]


@pytest.mark.parametrize("server", SERVERS)
def test_a_broker_that_is_not_there(tmp_path, server):
    """503 in bounded time from each of them, for single messages and for batches."""
    with serving(server, "localhost:1", "sample-topic", tmp_path) as client:
        for path, body in (("/tkprod", b"a"), ("/tkprod?lines=1", b"a\nb"), ("/tkprod?lines=1&atomic=1", b"a\nb")):
            began = time.monotonic()
            answer = client.post(path, content=body, headers=TEXT)
            assert code(answer) == (503, "not_sent")
            assert int(answer.headers["retry-after"]) > 0
            assert time.monotonic() - began < 12


# How each is told of a prefix, and what the path of a request then is: uvicorn and runserver have it taken off before them.
PREFIXED = {
    "granian": (["--url-path-prefix", "/in/here"], {}, "/in/here/tkprod"),
    "uvicorn": (["--root-path", "/in/here"], {}, "/tkprod"),
    "gunicorn": ([], {"SCRIPT_NAME": "/in/here"}, "/in/here/tkprod"),
    "runserver": ([], {"PREFIX": "/in/here"}, "/tkprod"),
}


@pytest.mark.parametrize("server", SERVERS)
def test_under_a_prefix(kafka, tmp_path, server):
    options, environment, path = PREFIXED[server]
    with serving(server, kafka.bootstrap, "sample-topic", tmp_path, options=options, **environment) as client:
        asked = {"accept": "application/json"}
        answer = eventually(lambda: _if_good(client.get(f"{path}?message=a", headers=asked)))
        assert answer.json()["topic"] == "sample-topic"
        assert answer.headers["link"].startswith("</in/here/")
        assert client.post(f"{path}?lines=1&summary=1", content=b"a\nb", headers=TEXT).json()["produced"] == 2
        assert client.get("/in/elsewhere/tkprod?message=a").status_code >= 400


def _if_good(answer: httpx.Response) -> httpx.Response | None:
    return answer if answer.status_code == 200 else None
