"""What is read of the store: bounded chunks, an end, and no topic that a token does not name."""

from itertools import islice

import pytest
from django.utils import timezone

from tk.access import CODE, Caller
from tk.errors import Forbidden
from tkcons import reader, views
from tkcons.models import Message, Position

pytestmark = pytest.mark.django_db

ORDERS = Caller("token t", scopes=frozenset({reader.VIEW}), topics=("orders.*",))


def store(topic: str, *values: bytes | None) -> None:
    position, _ = Position.objects.get_or_create(
        group="g", topic=topic, topic_id=topic, partition=0, defaults={"start_offset": 0, "next_offset": 0}
    )
    first = position.messages.count()
    Message.objects.bulk_create(
        Message(position=position, offset=first + number, value=value, stored_at=timezone.now())
        for number, value in enumerate(values)
    )


def test_a_chunk_is_bounded_in_bytes_and_in_rows(monkeypatch):
    monkeypatch.setattr(reader, "PAGE", 4)
    monkeypatch.setattr(reader, "PAGE_BYTES", 10)
    store("orders", b"x" * 6, b"x" * 6, None, b"x" * 50, b"x" * 4, b"x" * 6, *(b"" for _ in range(9)))
    chunks = [chunk.count(b"\n") for chunk in reader.json_lines(CODE)]
    assert chunks == [1, 2, 1, 4, 4, 3]
    assert sum(chunks) == 15


def test_it_ends_though_messages_keep_coming(monkeypatch):
    monkeypatch.setattr(reader, "PAGE", 2)
    store("orders", b"a", b"b", b"c")
    seen = 0
    for chunk in islice(reader.json_lines(CODE), 10):
        seen += chunk.count(b"\n")
        store("orders", b"later", b"later")
    assert seen == 3


def test_nothing_stored_nothing_sent():
    assert list(reader.json_lines(CODE)) == []


def test_a_token_reads_the_topics_that_it_names_and_no_other():
    store("orders.new", b"mine")
    store("salaries", b"secret")
    assert b"".join(reader.json_lines(ORDERS)).count(b"\n") == 1


@pytest.mark.parametrize(("topics", "refused"), [(["orders.new"], False), (["orders.new", "salaries"], True)])
def test_the_text_file_is_refused_to_a_token_that_does_not_name_all_its_topics(settings, tmp_path, topics, refused):
    path = tmp_path / "all.txt"
    settings.TKCONS = {"SINKS": {"file": {"class": "tkcons.sinks.TextFileSink", "topics": topics, "path": path}}}
    assert views.text_file(CODE) == path
    if refused:
        with pytest.raises(Forbidden):
            views.text_file(ORDERS)
    else:
        assert views.text_file(ORDERS) == path
