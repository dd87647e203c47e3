"""The page's addresses: a message, exports, values for people."""

import csv
import io
import json
import os
import socket
import uuid
from datetime import UTC, datetime

import pytest
from django.utils import timezone

from tests.storing import store
from tk import answer
from tk.models import IdempotentRequest, OutboxEvent
from tk.record import EVENT_ID_HEADER, Receipt, dump_headers
from tkcons import owners, positions
from tkcons.models import DeadLetter, Gap, Message, Position
from tkcons.sinks.base import Place
from tkcons.viewer.present import ALL, NODES, present

pytestmark = pytest.mark.django_db

HTML = {"Accept": "text/html"}


@pytest.fixture(autouse=True)
def _as_admin(client, admin_user):
    client.force_login(admin_user)


def letter(**fields) -> None:
    now = timezone.now()
    given = {"id": "x", "topic": "orders", "topic_id": "orders", "partition": 0, "offset": 0, "made_at": now}
    DeadLetter.objects.create(**given, changed_at=now, **fields)


def text(response) -> str:
    return b"".join(response.streaming_content).decode() if response.streaming else response.content.decode()


def test_a_message_has_an_address_also_when_its_topic_was_made_again(client):
    store("old", topic_id="first")
    store("new", topic_id="second")
    assert client.get("/tkcons/read/orders/0/0").json()["value"] == "new"
    assert client.get("/tkcons/read/orders/0/0?topic_id=first").json()["value"] == "old"
    page = text(client.get("/tkcons/read?text=old", headers=HTML))
    assert "/tkcons/read/orders/0/0?topic_id=first" in page


def test_no_bytes_are_no_tombstone_and_no_missing_key(client):
    store("", b"", key="")
    store(None)
    page = text(client.get("/tkcons/read", headers=HTML)).split('<tbody id="rows">')[1].split("</tbody>")[0]
    null, *empty = page.split("</tr>")[:3]
    assert ("tombstone" in null, ">none<" in null) == (True, True)
    assert not any("tombstone" in row or ">none<" in row for row in empty)


def test_what_is_not_there_says_why(client):
    position = store("first")
    store("after a gap", skip=2)
    Gap.objects.create(position=position, first_offset=1, end_offset=2, reason=Gap.Reason.REPEAT)
    assert "repeat of an event" in text(client.get("/tkcons/read/orders/0/1", headers=HTML))
    assert "no message at this offset" in text(client.get("/tkcons/read/orders/0/2", headers=HTML))
    waits = client.get("/tkcons/read/orders/0/9", headers=HTML)
    assert (waits.status_code, "not yet: 5 before it" in text(waits)) == (202, True)
    assert client.get("/tkcons/read/orders/0/9").status_code == 404
    assert client.get("/tkcons/read/nowhere/0/9", headers=HTML).status_code == 404
    assert client.get(f"/tkcons/read/orders/0/{'9' * 40}").status_code == 404


def test_the_way_of_a_message(client):
    event = OutboxEvent.objects.create(lane=0, shard=0, topic="orders", state=1, sent_at=timezone.now())
    store("sent", headers=((EVENT_ID_HEADER, str(event.event_id).encode()),))
    billing = {"group": "billing", "topic": "orders", "topic_id": "orders", "partition": 0}
    Position.objects.create(**billing, start_offset=0, next_offset=1, stores=False)
    letter(group="mailer", cause="no such customer", tries=5, state="resent", changed_by="ann")
    page = text(client.get("/tkcons/read/orders/0/0", headers=HTML))
    steps = ["in the outbox", "Acknowledged", "Stored by g", "Handled by billing", "Dead letter of mailer"]
    for step in [*steps, "after 5 tries: no such customer", "by ann"]:
        assert step in page
    store("plain", topic="plain")
    assert "not recorded" in text(client.get("/tkcons/read/plain/0/0", headers=HTML))


def test_the_way_of_a_message_with_an_idempotency_key(client):
    given = {"event_id": uuid.uuid4(), "attempt": 2, "created_at": datetime(2025, 3, 1, tzinfo=UTC)}
    IdempotentRequest.objects.create(**given, answered_at=datetime(2025, 3, 2, tzinfo=UTC))
    store("sent", headers=((EVENT_ID_HEADER, str(given["event_id"]).encode()),))
    page = text(client.get("/tkcons/read/orders/0/0", headers=HTML))
    assert f"with an Idempotency-Key, event {given['event_id']}, attempts: 2" in page
    assert page.index("2025-03-01") < page.index("Acknowledged") < page.index("2025-03-02")


def test_which_process_stored_and_handled_it(client):
    position = store("before it was recorded")
    handled = {"topic": "orders", "topic_id": "orders", "partition": 0, "start_offset": 0, "next_offset": 0}
    Position.objects.create(group="billing", stores=False, **handled)
    place = Place("orders", "orders", 0)
    positions.claim("g", [place], "default")
    positions.claim("billing", [place], "default")
    store("after")
    Position.objects.filter(group="billing").update(next_offset=2)
    me = f"by the process {socket.gethostname()}:{os.getpid()}"
    older, newer = (text(client.get(f"/tkcons/read/orders/0/{offset}", headers=HTML)) for offset in (0, 1))
    assert (older.count(me), older.count("the process is not recorded")) == (1, 1)  # billing began with this process
    assert (newer.count(me), newer.count("the process is not recorded")) == (2, 0)
    position.refresh_from_db()
    assert (position.claimed_from, position.generation) == (1, 1)


def test_earlier_owners_are_told_until_others_write_their_offsets_anew(client, monkeypatch):
    monkeypatch.setattr(owners, "KEPT", 2)
    position = store()

    def claim(process: str) -> None:
        monkeypatch.setattr(owners, "this_process", lambda: process)
        positions.claim("g", [Place("orders", "orders", 0)], "default")

    def writers() -> list[str]:
        position.refresh_from_db()
        return [owners.writer(position, offset) for offset in range(position.next_offset)]

    for process in ("a:1", "idle:1", "b:1", "b:1", "c:1"):
        claim(process)
        if "idle" not in process:
            store(f"by {process}")
    assert writers() == ["a:1", "b:1", "b:1", "c:1"]
    assert "by the process b:1" in text(client.get("/tkcons/read/orders/0/2", headers=HTML))
    Message.objects.filter(offset__gte=1).delete()
    Position.objects.update(next_offset=1)  # as a seek does
    claim("d:1")
    store("by d", "by d")
    assert writers() == ["a:1", "d:1", "d:1"]
    for process in ("e:1", "f:1"):
        claim(process)
        store(f"by {process}")
    assert writers() == ["", "d:1", "d:1", "e:1", "f:1"]  # the oldest is forgotten


def test_who_may_not_see_dead_letters_sees_no_cause(client, django_user_model):
    from django.contrib.auth.models import Permission

    user = django_user_model.objects.create_user("ann")
    user.user_permissions.add(Permission.objects.get(codename="view_payload"))
    client.force_login(user)
    store("v")
    letter(group="g", cause="secret", tries=1)
    page = text(client.get("/tkcons/read/orders/0/0", headers=HTML))
    assert "Dead letter of g" in page
    assert "secret" not in page
    assert client.get("/tkcons/export").status_code == 403  # of its own


def test_a_json_answer_links_to_the_message(settings):
    receipt = Receipt("a.b", 3, 7, 0)
    assert answer.produced(receipt, as_json=True).headers == (("Link", '</tkcons/read/a.b/3/7>; rel="related"'),)
    assert answer.produced(receipt, as_json=False).headers == ()
    settings.ROOT_URLCONF = "tk.urls"  # a project without tkcons
    assert answer.produced(receipt, as_json=True).headers == ()


@pytest.mark.parametrize("address", ["/admin/tkcons/message/{}/change/", "/admin/tkcons/deadletter/x/change/"])
def test_the_admin_hides_it_too(client, settings, address):
    settings.TKCONS = {"MASK": {"fields": ["card"], "headers": ["secret"]}}
    headers = (("secret", b"4111"),)
    position = store('{"card": 4111}', headers=headers)
    letter(group="g", cause="c", tries=1, value=b'{"card": 4111}', headers=dump_headers(headers))
    page = text(client.get(address.format(position.messages.get().pk)))
    assert "4111" not in page
    assert page.count("•••") >= 2


def test_a_value_is_downloaded_and_never_run(client):
    store(b"<script>alert(1)</script>", topic="a.b")
    answer = client.get("/tkcons/read/a.b/0/0?download", headers=HTML)
    assert answer.content == b"<script>alert(1)</script>"
    assert answer["Content-Type"] == "application/octet-stream"
    assert answer["X-Content-Type-Options"] == "nosniff"
    assert answer["Content-Disposition"] == 'attachment; filename="a.b-0-0.bin"'


@pytest.mark.parametrize("formula", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", " =1"])
def test_a_spreadsheet_runs_nothing(client, formula):
    store(formula, key=formula)
    rows = list(csv.DictReader(io.StringIO(text(client.get("/tkcons/export?format=csv")), newline="")))
    assert [row["value"] for row in rows] == ["'" + formula]
    assert rows[0]["key"] == "'" + formula


def test_exports_are_what_a_search_finds_oldest_first(client):
    store("a", None, b"\xff", "line\nbreak", headers=(("h", b"v"),))
    store("other", topic="other")
    lines = [json.loads(line) for line in text(client.get("/tkcons/export?format=jsonl&topic=orders")).splitlines()]
    assert [line["value"] for line in lines] == ["a", None, "/w==", "line\nbreak"]
    plain = text(client.get("/tkcons/export?format=txt&topic=orders&text=break"))
    assert plain == "orders[0]@3\t2023-11-14T22:13:20.000+00:00\t\tline\\nbreak\n"
    table = list(csv.DictReader(io.StringIO(text(client.get("/tkcons/export?topic=orders")), newline="")))
    assert [row["encoding"] for row in table] == ["", "tombstone", "base64", ""]
    assert client.get("/tkcons/export?format=exe").status_code == 400
    assert client.get("/tkcons/export?partition=x").status_code == 400


def test_json_is_folded_and_no_digit_is_lost():
    shown = present(b'{"a": {"b": [1.10, 12345678901234567890123, "<b>"]}, "c": {}}', everything=False)
    assert shown.html is not None
    assert shown.kind == "json"
    for part in ("1.10", "12345678901234567890123", "&lt;b&gt;", "<details open>", "3 items"):
        assert part in shown.html


def test_half_a_surrogate_pair_is_shown_as_it_was_written(client):
    """JSON may escape it, and no page can hold it."""
    store(r'{"a": "\ud800"}', r'{"\ud800": 1}')
    for offset in (0, 1):
        assert r"\ud800" in text(client.get(f"/tkcons/read/orders/0/{offset}", headers=HTML))


@pytest.mark.parametrize("value", [b"[" * 100_000, b'{"a":' * 5_000 + b"1" + b"}" * 5_000, b"[1", b"{}x"])
def test_what_is_too_deep_or_no_json_is_text(value):
    assert present(value, everything=False).kind in {"text", "json"}
    assert len(present(value, everything=True).html or "") < 20_000


def test_a_wide_document_is_bounded():
    shown = present(json.dumps([{"x": n} for n in range(NODES)]).encode(), everything=False)
    assert shown.html is not None
    assert shown.html.count("<li>") <= NODES + 3_000
    assert "more, in the text below" in shown.html


def test_long_values_are_cut_until_all_is_asked_for():
    cut, whole = (present("é".encode() * 100_000, everything=everything) for everything in (False, True))
    assert (cut.cut, len(cut.text), whole.cut, len(whole.text)) == (True, 32_768, False, 100_000)
    assert present(b"x" * (ALL + 1), everything=True).cut


def test_bytes_are_dumped_in_hex():
    shown = present(bytes(range(256)), everything=False)
    assert shown.kind == "binary"
    assert shown.text.splitlines()[4] == "00000040  40 41 42 43 44 45 46 47 48 49 4a 4b 4c 4d 4e 4f  @ABCDEFGHIJKLMNO"
