"""What the settings hide is hidden on every way out, and cannot be guessed at."""

import json

import pytest
from django.utils import timezone

from tests.storing import store
from tk.access import CODE, Caller
from tkcons import deadletters, reader
from tkcons.masking import HIDDEN, Mask
from tkcons.models import DeadLetter
from tkcons.viewer import search
from tkcons.viewer.export import FORMATS, export
from tkcons.viewer.query import Query

CARD = Mask(("card", "customer.email"), ("Authorization",))


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ('{"card": "4111", "id": 1.50}', {"card": HIDDEN, "id": 1.5}),
        ('{"a": [{"CARD": {"number": 4111}}]}', {"a": [{"CARD": HIDDEN}]}),
        ('{"c\\u0061rd": "4111"}', {"card": HIDDEN}),
        ('{"customer": [{"email": "a@b", "name": "Ada"}]}', {"customer": [{"email": HIDDEN, "name": "Ada"}]}),
        ('{"email": "no path"}', {"email": "no path"}),
        (
            '{"inner": "{\\"card\\": \\"4111\\"}"}',
            {"inner": json.dumps({"card": HIDDEN}, ensure_ascii=False, separators=(",", ":"))},
        ),
        ('{"card": "4111", "card": "4112"}', {"card": HIDDEN}),
    ],
)
def test_fields_by_name_and_by_path(value, shown):
    assert json.loads(CARD.data(value.encode())) == shown


@pytest.mark.parametrize("value", [b'{"card": "4111"', b"card=4111", b"\xff card 4111", b'[{"card":' * 100_000])
def test_what_names_a_field_and_is_no_json_is_hidden_whole(value):
    assert CARD.data(value) == HIDDEN.encode()


@pytest.mark.parametrize("value", [None, b"", b"hello", b'{"id":  1}', b"\xff\x00"])
def test_everything_else_stays_as_it_is(value):
    assert CARD.data(value) is value
    assert Mask().data(value) is value


def test_headers_by_name_in_any_case():
    hidden = HIDDEN.encode()
    assert CARD.headers((("AUTHORIZATION", b"x"), ("id", b"1"))) == (("AUTHORIZATION", hidden), ("id", b"1"))


@pytest.mark.django_db
def test_no_way_out_shows_it_and_no_search_finds_it(settings):
    settings.TKCONS = {"MASK": {"fields": ["card"], "headers": ["authorization"]}}
    secret = b'{"card": "4111", "id": 7}'
    store(secret, key=secret, headers=(("authorization", b"4111"),))
    store(b'{"card": "4111"' + b" " * 70_000 + b"}")
    ways = [b"".join(reader.json_lines(CODE)), *(b"".join(export(CODE, Query(), kind)) for kind in FORMATS)]
    ways += [repr([row.row() for row in search.find(CODE, Query()).rows]).encode()]
    for way in ways:
        assert b"4111" not in way
        assert HIDDEN.encode() in way or b"\\u2022" in way
    for query in (Query(text="4111"), Query(header="authorization: 4111"), Query(key=secret.decode())):
        assert search.find(CODE, query).rows == []
        assert b"".join(export(CODE, query, "jsonl")) == b""
    assert len(search.find(CODE, Query(text='"id":7')).rows) == 0  # the stored text has a space there
    assert len(search.find(CODE, Query(header="authorization")).rows) == 1


@pytest.mark.django_db
def test_no_search_of_dead_letters_finds_it(settings, monkeypatch, admin_client):
    now = timezone.now()
    for number, value in enumerate([b'{"card": "4111", "id": 7}', b'{"id": 7}', b"4111 is plain", b'{"id": 8}']):
        given = {"id": f"{number:032x}", "offset": number, "value": value, "key": value, "made_at": now, "cause": "E"}
        DeadLetter.objects.create(group="g", topic="t", topic_id="t", partition=0, tries=1, changed_at=now, **given)

    def found(text: str, caller: Caller = CODE, **given: object) -> list[int]:
        shown = admin_client.get("/admin/tkcons/deadletter/", {"q": text}).context["cl"].result_list
        offsets = [letter.offset for letter in deadletters.find(caller, text=text, **given)]
        assert given or caller is not CODE or offsets == [letter.offset for letter in shown]
        return offsets

    assert found("4111") == [2, 0]
    settings.TKCONS = {"MASK": {"fields": ["card"]}}
    assert found("4111") == [2]
    assert found('"id": 7') == [1]  # a masked value is written anew, without the space
    assert found("id") == [3, 1, 0]
    assert found("E") == [3, 2, 1, 0]
    monkeypatch.setattr(deadletters, "FOUND", 2)
    assert found("id", before=(now, f"{3:032x}"), limit=2) == [1, 0]
    reads_no_messages = Caller("t", None, frozenset({"tkcons.view_deadletter"}))
    assert found("4111 is", reads_no_messages) == []
    assert found("E", reads_no_messages) == [3, 2, 1, 0]
