"""Whatever is asked of the page, the panel and their actions, the answer is no 5xx. See tests.asking."""

import time
from collections import Counter
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from tests.asking import FORM, Asked, answer, asked
from tests.fuzzing import SECONDS, SEED
from tests.storing import store
from tests.unit.test_fuzz import SEARCHES
from tkcons import web
from tkcons.models import DeadLetter
from tkcons.viewer import cursor

pytestmark = [
    pytest.mark.kafka,
    pytest.mark.postgres,
    pytest.mark.django_db(databases=["default", "postgres"]),
    pytest.mark.timeout(600),
]

KEY = b"0" * 32
HTML = {"HTTP_ACCEPT": b"text/html"}
HTMX = {"HTTP_HX_REQUEST": b"true"}
POSTED = {"CONTENT_TYPE": FORM, **HTML}
LETTERS = (
    b"group=g&topic=orders&state=waiting&since=2026-01-01T00:00&until=2026-02-01&q=text&before=2026-01-01T00:00:00_a"
)
MOVE = b"to=offset&offset=3&time=2026-01-01T00:00:00&topic=orders&partition=0"


def right(topic: bytes) -> list[Asked]:
    look = b"/tkcons/topics/%s/messages" % topic
    return [
        *(Asked("GET", b"/tkcons/read", query, headers=HTML) for query in SEARCHES),
        Asked("GET", b"/tkcons/read", SEARCHES[2], headers=HTMX),
        Asked("GET", b"/tkcons/read", b"format=jsonl"),
        Asked("GET", b"/tkcons/read/orders/0/0", b"topic_id=orders&group=g", headers=HTML),
        Asked("GET", b"/tkcons/read/orders/0/1", b"download=1"),
        Asked("GET", b"/tkcons/events", b"poll=1&after=" + cursor.dump({1: 2}).encode() + b"&" + SEARCHES[0]),
        Asked("GET", b"/tkcons/events", b"poll=1", headers={"HTTP_LAST_EVENT_ID": cursor.dump({1: 0}).encode()}),
        Asked("GET", b"/tkcons/export", b"format=csv&text=a"),
        Asked("GET", b"/tkcons/export", b"format=jsonl&" + SEARCHES[1]),
        Asked("GET", b"/tkcons/status", headers={"HTTP_ACCEPT": b"application/json"}),
        Asked("GET", b"/tkcons/deadletters", LETTERS, headers=HTML),
        Asked("GET", b"/tkcons/deadletters/" + KEY, headers=HTML),
        Asked("POST", b"/tkcons/deadletters/settle", body=b"id=%s&what=resend&sure=1" % KEY, headers=POSTED),
        Asked("POST", b"/tkcons/deadletters/settle", body=b"id=%s&id=a&what=discard" % KEY, headers=POSTED),
        Asked("GET", b"/tkcons/group", b"name=g", headers=HTML),
        Asked("POST", b"/tkcons/group", b"name=g", b"state=paused&panel=1", POSTED),
        Asked("GET", b"/tkcons/group/move", b"name=g&" + MOVE, headers=HTML),
        Asked("POST", b"/tkcons/group/move", b"name=g", MOVE, POSTED),
        Asked("POST", b"/tkcons/group/skip", b"name=g", headers=POSTED),
        Asked("POST", b"/tkcons/pause", headers=POSTED),
        Asked("GET", b"/tkcons/topics", b"q=%s&after=a" % topic[:3], headers=HTML),
        Asked("GET", b"/tkcons/topics/" + topic, headers=HTML),
        Asked("GET", look, b"partition=0&offset=1&limit=25", headers=HTML),
        Asked("GET", look, b"partition=0&time=2026-01-01T00:00:00&before=9", headers=HTML),
        Asked("GET", look + b"/0/1", headers=HTML),
        Asked("POST", b"/tkcons/new-topic", body=b"name=orders&partitions=3&retention.ms=1000", headers=POSTED),
        Asked("POST", b"/tkcons/topics/%s/delete" % topic, body=b"typed=another", headers=POSTED),
        Asked(
            "POST", b"/tkcons/produce", b"", b"topic=%s&key=k&value=v&headers=a%%3A+b&repeat=2" % topic, headers=POSTED
        ),
    ]


class ToPostgres:
    """A router that has the apps' tables in the second database."""

    def db_for_read(self, model: Any, **hints: Any) -> str | None:
        return "postgres" if model._meta.app_label in {"tk", "tkcons"} else None

    db_for_write = db_for_read


@pytest.fixture(params=["default", "postgres"])
def filled(request, settings, postgres_alias, topic, send, monkeypatch) -> str:
    monkeypatch.setattr(web, "ensure_started", lambda: None)  # no thread of ours in a test's transaction
    settings.DATABASE_ROUTERS = [ToPostgres()] if request.param == "postgres" else []
    settings.TK = {"TOPICS": ["orders", topic]}
    settings.TKCONS = {
        "SINKS": {
            "s": {"class": "tkcons.sinks.DatabaseSink", "topics": ["orders"], "group": "g", "using": request.param}
        },
        "RUN_IN_WEB": False,
    }
    store('{"a": [1, 2]}', b"\xff", None, "<script>", key="k", headers=[("a", "b")])
    now = timezone.now()
    given = {"group": "g", "topic": "orders", "topic_id": "i", "partition": 0, "offset": 1, "cause": "E", "tries": 1}
    DeadLetter.objects.create(id=KEY.decode(), value=b"text", made_at=now, changed_at=now, **given)
    send(topic, "one", "two", "three")
    return topic


def test_no_5xx_from_input(filled, admin_user):
    client = Client()
    client.force_login(admin_user)
    seen: Counter[int] = Counter()
    spent: Counter[bytes] = Counter()
    for case in asked(right(filled.encode())):
        told = f"{case!r} (FUZZ_SEED={SEED})"
        began = time.thread_time()
        try:
            response, content = answer(client, case)
        except Exception as error:
            raise AssertionError(told) from error
        took = time.thread_time() - began
        assert took < SECONDS, told
        full = b"events" in case.path and response.get("X-Error-Code") == "too_many_viewers"  # no stream in a test
        assert response.status_code < 500 or full, f"{response.status_code} {content[:500]!r}: {told}"
        seen[response.status_code] += 1
        spent[case.path[:24]] += took
    print(seen, spent.most_common(12))
    assert {200, 302, 400, 404, 405} <= set(seen)
