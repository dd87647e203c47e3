"""A handler's transaction on both databases: what another owner, a failure and a kill do to it."""

import threading
from functools import partial

import pytest
from confluent_kafka import Message
from django.contrib.auth.models import Group as Role
from django.db import connections, transaction

from tests.integration.transacting import PLACE, Clock, batch, begun, note, noted, position, sink_of
from tk.access import CODE
from tk.record import EVENT_ID_HEADER
from tkcons import deadletters, positions
from tkcons.errors import RetryLater, StaleOwner
from tkcons.models import DeadLetter, Gap, Position, SeenEvent
from tkcons.sinks.base import Batch, Claim

pytestmark = [
    pytest.mark.usefixtures("postgres_alias"),
    pytest.mark.django_db(transaction=True, databases=["default", "postgres"]),
]


@pytest.fixture(params=["default", "postgres"])
def using(request) -> str:
    return request.param


def test_effects_and_position_in_one_transaction(using):
    sink = sink_of(partial(note, using=using), using=using)
    assert sink.write([batch(begun(sink), 0, 1, 2)]) == 3
    assert noted(using) == ["v0", "v1", "v2"]
    assert position(using) == 3


def test_a_try_does_not_wait_for_the_disk_and_the_position_does(using):
    connection = connections[using]
    ask, full = {"sqlite": ("PRAGMA synchronous", 2), "postgresql": ("SHOW synchronous_commit", "on")}[
        connection.vendor
    ]
    said, levels = [], []

    def look(message):
        with connection.cursor() as cursor:
            cursor.execute(ask)
            levels.append(cursor.fetchone()[0])

    def listen(execute, sql, *given):
        said.append(sql)
        return execute(sql, *given)

    sink = sink_of(look, using=using)
    claim = begun(sink)
    with connection.execute_wrapper(listen):
        sink.write([batch(claim, 0)])
    look(None)
    assert levels == [full, full]  # in the transaction, and after it
    tries = "\n".join(said[: said.index(next(sql for sql in said if "SET next_offset" in sql))])
    assert "synchronous = NORMAL" in tries or "set_config('synchronous_commit', 'off', true)" in tries


def test_a_failure_rolls_back_both_and_at_last_is_a_letter(using):
    def fail(message):
        note(message, using)
        if message.offset == 1:
            raise ValueError("poison")

    sink = sink_of(fail, using=using)
    claim = begun(sink)
    with pytest.raises(RetryLater) as caught:
        sink.write([batch(claim, 0, 1, 2)])
    assert caught.value.next_offset == position(using) == 1
    assert noted(using) == ["v0"]
    assert sink.write([batch(claim._replace(next_offset=1), 1, 2)]) == 3
    assert noted(using) == ["v0", "v2"]
    letter = DeadLetter.objects.using(using).get()
    found = deadletters.waiting(CODE, using)
    assert [each.pk for each in found.filter(deadletters.matches("v1"))] == [letter.pk]  # text in the value's bytes
    assert not found.filter(deadletters.matches("v7")).exists()


def test_the_old_owner_is_refused_before_its_handler_is_called(using):
    calls: list[object] = []
    old, new = sink_of(calls.append, using=using), sink_of(note, using=using)
    claim = begun(old)
    new.claim([PLACE])
    with pytest.raises(StaleOwner):
        old.write([batch(claim, 0)])
    assert calls == []


class Killed(BaseException):
    """Nothing catches it: what a process leaves in the database when it is killed in a call."""


def test_tries_survive_the_end_of_the_process_and_the_one_that_kills_is_a_letter(using):
    calls: list[str] = []

    def kill(message):
        calls.append(message.value.decode())
        note(message, using)
        if message.offset == 2:
            raise Killed

    def once() -> Claim:
        """A process: it claims, handles, and is killed or comes to the end."""
        sink = sink_of(kill, using=using, tries=2)
        claim = sink.claim([PLACE]).get(PLACE) or begun(sink)
        while claim.next_offset < 4:
            claim = claim._replace(next_offset=sink.write([batch(claim, *range(claim.next_offset, 4))]))
        return claim

    for _ in range(3):  # once among others, then alone as often as tries says
        with pytest.raises(Killed):
            once()
    assert once().next_offset == 4
    assert noted(using) == ["v0", "v1", "v3"]
    assert calls == ["v0", "v1", "v2", "v0", "v1", "v2", "v2", "v3"]
    letter = DeadLetter.objects.using(using).get()
    assert (letter.offset, letter.tries) == (2, 2)
    assert letter.cause.startswith("ProcessEnded")


def test_of_what_is_known_the_next_try_is_recorded_with_the_position(using):
    said, killed = [], []

    def handle(messages):
        if killed and messages[0].offset == 4:
            raise Killed

    def listen(execute, sql, *given):
        said.append(sql)
        return execute(sql, *given)

    sink = sink_of(handle, using=using, batch=2)
    claim = begun(sink)
    with connections[using].execute_wrapper(listen):
        assert sink.write([batch(claim, 0, 1, 2, 3, 4, 5)]) == 6
    assert sum("SET trying_until" in sql for sql in said) == 1
    assert Position.objects.using(using).get().trying_until is None
    killed.append(True)
    claim = sink.claim([PLACE])[PLACE]
    Position.objects.using(using).update(next_offset=0)
    with pytest.raises(Killed):
        sink.write([batch(claim._replace(next_offset=0), 0, 1, 2, 3, 4, 5)])
    assert (position(using), Position.objects.using(using).get().trying_until) == (4, 6)


def test_a_try_on_record_is_begun_and_one_for_which_there_is_no_time_is_not_recorded(using, monkeypatch):
    clock = Clock()
    monkeypatch.setattr("tkcons.sinks.handler.time", clock)
    monkeypatch.setattr("tkcons.sinks.handler.LONG_SECONDS", 600.0)
    late = positions.remember

    def slow(messages):
        clock.now += 0.3

    sink = sink_of(slow, using=using, batch=2)
    claim = begun(sink)
    assert sink.write([batch(claim, *range(8))]) == 4
    assert Position.objects.using(using).get().trying_until is None

    def commit_late(*given):
        clock.now += 60
        late(*given)

    monkeypatch.setattr("tkcons.positions.remember", commit_late)
    claim = claim._replace(next_offset=4)
    clock.now += 1
    assert sink.write([batch(claim, *range(4, 10))]) == 8  # begun though the time is over
    assert Position.objects.using(using).get().trying_until is None


@pytest.mark.parametrize("kind", ["plain", "async"])
def test_a_transaction_ends_with_its_slice_and_the_rest_comes_again(using, kind, monkeypatch):
    """Whatever was not called is neither passed nor remembered: its event is no repeat when it comes again."""
    clock = Clock()
    monkeypatch.setattr("tkcons.call.time", clock)
    monkeypatch.setattr("tkcons.sinks.handler.time", clock)
    monkeypatch.setattr("tkcons.sinks.handler.LONG_SECONDS", 60.0)

    def slow(message):
        note(message, using)
        clock.now += 0.3

    async def slowly(message):
        await Role.objects.using(using).acreate(name=message.value.decode())
        clock.now += 0.3

    sink = sink_of(slow if kind == "plain" else slowly, using=using)
    claim = begun(sink)
    ids = [b"a", b"b", b"a", b"c", b"d", b"b", b"e"]  # 2 and 5 are repeats
    messages = [
        Message(topic="orders", partition=0, offset=n, value=b"v%d" % n, headers=[(EVENT_ID_HEADER, each)])
        for n, each in enumerate(ids)
    ]
    assert sink.write([Batch(PLACE, claim, messages, 7)]) == position(using) == 3
    assert noted(using) == ["v0", "v1"]
    assert sorted(SeenEvent.objects.using(using).values_list("event_id", flat=True)) == ["a", "b"]
    assert list(Gap.objects.using(using).values_list("first_offset", flat=True)) == [2]
    claim = claim._replace(next_offset=3)
    assert sink.write([Batch(PLACE, claim, messages[3:], 7)]) == 6
    assert sink.write([Batch(PLACE, claim._replace(next_offset=6), messages[6:], 7)]) == position(using) == 7
    assert noted(using) == ["v0", "v1", "v3", "v4", "v6"]
    assert list(Gap.objects.using(using).values_list("first_offset", flat=True)) == [2, 5]


def test_a_batch_is_one_call_however_long_it_takes(using, monkeypatch):
    monkeypatch.setattr("tkcons.sinks.handler.SLICE_SECONDS", 0.05)
    sizes: list[int] = []

    def slow(messages):
        sizes.append(len(messages))
        threading.Event().wait(0.1)

    sink = sink_of(slow, using=using, batch=4)
    claim = begun(sink)
    assert sink.write([batch(claim, *range(6))]) == 4
    assert sink.write([batch(claim._replace(next_offset=4), 4, 5)]) == 6
    assert sizes == [4, 2]


def test_two_processes_never_take_the_same_letter():
    sink = sink_of(note, tries=1)
    message = Message(topic="orders", partition=0, offset=0, value=b"v0", timestamp=(1, 5))
    letter = deadletters.make("g", PLACE, message, ValueError("x"), 1)
    deadletters.store(letter, "postgres")
    deadletters.resend([letter.pk], CODE, "postgres")
    with transaction.atomic(using="postgres"):
        DeadLetter.objects.using("postgres").select_for_update().get()
        other: list[int] = []

        def work() -> None:
            try:
                other.append(len(deadletters.take("g", 10, "postgres")))
            finally:
                connections.close_all()

        thread = threading.Thread(target=work)
        thread.start()
        thread.join(10)
    assert other == [0]
    sink.tick()
    assert noted() == ["v0"]
    assert DeadLetter.objects.using("postgres").get().state == DeadLetter.State.RESENT
