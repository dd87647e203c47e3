"""The REST Proxy as its clients use it: over Django's test client, on the real broker."""

import base64
import json
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.test import Client

from tests.waiting import eventually
from tk import access
from tk.models import Token
from tkrest import instances

V2 = "application/vnd.kafka.v2+json"
JSON = "application/vnd.kafka.json.v2+json"
BINARY = "application/vnd.kafka.binary.v2+json"


class Rest:
    """A client: ``rest("POST", "/topics/t", {...})`` gives the answer; `rest.json(...)` its JSON, which must be a 2xx."""

    def __init__(self, **headers: str) -> None:
        self._client = Client(raise_request_exception=False)
        self._headers = headers

    def __call__(self, method: str, path: str, body: Any = None, kind: str = V2, **headers: str) -> Any:
        data = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
        given = {**self._headers, **headers}
        return self._client.generic(method, f"/rest{path}", data, content_type=kind, headers=given)

    def json(self, *args: Any, **kwargs: Any) -> Any:
        answer = self(*args, **kwargs)
        assert answer.status_code in {200, 204}, answer.content
        return answer.json() if answer.content else None

    def refused(self, *args: Any, **kwargs: Any) -> tuple[int, int]:
        """The status and the code of an answer that is a refusal in the REST Proxy's form."""
        answer = self(*args, **kwargs)
        body = answer.json()
        assert set(body) == {"error_code", "message"}
        assert isinstance(body["message"], str)
        assert answer["Content-Type"] == V2
        return answer.status_code, body["error_code"]

    def send(self, topic: str, *values: Any) -> None:
        sent = self.json("POST", f"/topics/{topic}", {"records": [{"value": value} for value in values]}, JSON)
        assert [each["error_code"] for each in sent["offsets"]] == [None] * len(values)


class Consumer:
    """A consumer instance made over HTTP."""

    def __init__(self, rest: Rest, group: str, **options: Any) -> None:
        self.rest = rest
        options = {"format": "json", "auto.offset.reset": "earliest", **options}
        self.kind = f"application/vnd.kafka.{options['format']}.v2+json"
        made = rest.json("POST", f"/consumers/{group}", options)
        self.path = f"/consumers/{group}/instances/{made['instance_id']}"
        self.base_uri = made["base_uri"]

    def __call__(self, method: str, part: str, body: Any = None) -> Any:
        return self.rest.json(method, f"{self.path}{part}", body)

    def subscribe(self, *topics: str) -> None:
        self("POST", "/subscription", {"topics": list(topics)})

    def records(self, query: str = "") -> list[dict[str, Any]]:
        return self.rest.json("GET", f"{self.path}/records{query}", accept=self.kind)

    def values(self, count: int, query: str = "?timeout=500") -> list[Any]:
        """The values of the next `count` records, in as many reads as it takes."""
        found: list[Any] = []
        eventually(lambda: len(found) >= count or found.extend(r["value"] for r in self.records(query)), 30)
        return found


@pytest.fixture
def local(settings, broker) -> Iterator[Rest]:
    """The person at this machine while DEBUG is on."""
    settings.DEBUG = True
    yield Rest()
    instances.close()


@pytest.fixture
def consumer(local) -> Callable[..., Consumer]:
    """``consumer(group, **options)``: an instance of a json consumer that begins at the earliest record."""
    return lambda group, **options: Consumer(local, group, **options)


@pytest.fixture
def bearer(broker, db) -> Iterator[Callable[..., Rest]]:
    """``bearer(*scopes, topics=())``: a client with a token of its own."""

    def make(*scopes: str, topics: tuple[str, ...] = ()) -> Rest:
        text, digest = access.new_token()
        Token.objects.create(name=uuid.uuid4().hex, digest=digest, scopes=list(scopes), topics=list(topics))
        return Rest(authorization=f"Bearer {text}")

    yield make
    instances.close()


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode()
