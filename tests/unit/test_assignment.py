import threading

from confluent_kafka import Message

from tests.waiting import eventually
from tkcons.assignment import Assignment
from tkcons.sinks.base import Claim, Place

PLACE = Place("t", "id", 0)
OTHER = Place("t", "id", 1)


def messages(partition: int, *offsets: int) -> list[Message]:
    return [Message(topic="t", partition=partition, offset=offset, value=b"x") for offset in offsets]


def holding(*places: Place) -> Assignment:
    assignment = Assignment(100, 10_000)
    for place in places:
        assignment.hold(place, Claim(1, 0))
    return assignment


def offsets(batch) -> list[int]:
    return [message.offset() for message in batch.messages]


def test_messages_of_partitions_not_held_are_dropped():
    assignment = holding(PLACE)
    assignment.add(messages(0, 0, 1) + messages(1, 7))
    (batch,) = assignment.take(0)
    assert (batch.place, offsets(batch), batch.end) == (PLACE, [0, 1], 2)


def test_messages_before_the_position_are_dropped():
    assignment = Assignment(100, 10_000)
    assignment.hold(PLACE, Claim(1, 5))
    assignment.add(messages(0, 3, 4, 5, 6))
    assert offsets(assignment.take(0)[0]) == [5, 6]


def test_what_comes_in_while_a_batch_is_written_waits_for_the_next():
    assignment = holding(PLACE)
    assignment.add(messages(0, 0))
    (first,) = assignment.take(0)
    assignment.add(messages(0, 1))
    assert offsets(first) == [0]
    assignment.done([first])
    (second,) = assignment.take(0)
    assert (offsets(second), second.claim) == ([1], Claim(1, 1))


def test_a_failed_batch_comes_again_first():
    assignment = holding(PLACE)
    assignment.add(messages(0, 0))
    (batch,) = assignment.take(0)
    assignment.add(messages(0, 1))
    assignment.put_back([batch], 0)
    assert offsets(assignment.take(0)[0]) == [0]


def test_a_refused_batch_is_dropped_and_its_partition_claimed_anew():
    assignment = holding(PLACE, OTHER)
    assignment.add(messages(0, 0) + messages(1, 0))
    batches = assignment.take(0)
    assignment.refuse([batch for batch in batches if batch.place == PLACE])
    assert assignment.stale == {("t", 0)}
    assert assignment.names() == {("t", 1)}


def test_a_revoked_partition_is_not_written_later():
    assignment = holding(PLACE)
    assignment.add(messages(0, 0))
    assignment.drop([("t", 0)], 0)
    assert assignment.take(0) == []
    assert not assignment.full


def test_the_positions_to_commit_are_those_stored():
    assignment = holding(PLACE)
    assert assignment.take_moved() == {("t", 0): 0}  # where it goes on
    assignment.add(messages(0, 0, 1))
    assert assignment.take_moved() == {}
    assignment.done(assignment.take(0))
    assert assignment.take_moved() == {("t", 0): 2}
    assert assignment.take_moved() == {}


def test_positions_that_kafka_did_not_take_are_told_again_while_they_are_held():
    assignment = holding(PLACE, OTHER)
    assignment.take_moved()
    assignment.add(messages(0, 0, 1))
    assignment.done(assignment.take(0))
    refused = assignment.take_moved()
    assignment.add(messages(0, 2))
    assignment.done(assignment.take(0))
    assignment.drop([("t", 1)], 0)
    assignment.not_told([*refused, ("t", 1)])
    assert assignment.take_moved() == {("t", 0): 3}  # as it is by now


def test_full_by_count_and_by_bytes():
    by_count = Assignment(2, 10_000)
    by_count.hold(PLACE, Claim(1, 0))
    by_count.add(messages(0, 0, 1))
    assert by_count.full
    by_bytes = Assignment(100, 3)
    by_bytes.hold(PLACE, Claim(1, 0))
    by_bytes.add(messages(0, 0, 1))
    assert not by_bytes.full
    assert not by_bytes.full  # each is weighed once
    by_bytes.add(messages(0, 2))
    assert by_bytes.full
    by_bytes.take(0)
    assert not by_bytes.full


def test_a_resting_partition_takes_no_room_and_comes_again_from_its_position():
    assignment = holding(PLACE, OTHER)
    assignment.take_moved()
    assignment.add(messages(0, 0, 1, 2) + messages(1, 0))
    first, second = assignment.take(0)
    assignment.add(messages(0, *range(3, 102)))
    assert assignment.full is False
    assignment.add(messages(0, 102))
    assert assignment.full
    assignment.rest(first, 60, 1)
    assert not assignment.full
    assert set(assignment.resting()) == {("t", 0)}
    assert assignment.take_moved() == {("t", 0): 1}
    assignment.add(messages(0, 103))  # was on its way: not after its position
    assignment.done([second])
    assert assignment.take(0) == []
    assignment.wake(("t", 0))
    assert assignment.resting() == {}
    assignment.add(messages(0, 1, 2))
    (again,) = assignment.take(0)
    assert (offsets(again), again.claim) == ([1, 2], Claim(1, 1))


def test_several_topics_are_told_apart():
    assignment = Assignment(100, 10_000)
    same = [Place("a", "id-a", 0), Place("b", "id-b", 0)]
    for place in same:
        assignment.hold(place, Claim(1, 0))
    mixed = [
        Message(topic=name, partition=0, offset=offset, value=b"x")
        for name, offset in [("a", 0), ("b", 0), ("a", 1), ("b", 1)]
    ]
    assignment.add(mixed)
    assert [(batch.place.topic, offsets(batch)) for batch in assignment.take(0)] == [("a", [0, 1]), ("b", [0, 1])]


def test_runs_of_two_partitions_in_turns():
    assignment = Assignment(100, 10_000, "t")
    for place in (PLACE, OTHER):
        assignment.hold(place, Claim(1, 0))
    assignment.add(messages(0, 0) + messages(1, 0) + messages(0, 1) + messages(1, 1))
    assert [offsets(batch) for batch in assignment.take(0)] == [[0, 1], [0, 1]]


def test_of_a_partition_that_leaves_the_rest_of_a_batch_is_not_begun():
    """Or a revoke would wait for all of a slow handler's batch, slice by slice."""
    assignment = holding(PLACE)
    assignment.add(messages(0, 0, 1, 2))
    (batch,) = assignment.take(0)
    leaving = threading.Thread(target=assignment.drop, args=([("t", 0)], 60))
    leaving.start()
    eventually(lambda: assignment._held["t", 0].leaving)
    with assignment._change:  # as if the thread that drops were slow to wake
        assignment.done([batch], 1)
        assert assignment.take(0) == []
    leaving.join(10)
    assert not leaving.is_alive()
    assert assignment.positions() == {}


def test_alone_each_partition_has_its_turn():
    assignment = holding(PLACE, OTHER)
    assignment.add(messages(0, 0) + messages(1, 0))
    (first,) = assignment.take(0, alone=True)
    assignment.done([first])
    assignment.add(messages(0, 1))
    (second,) = assignment.take(0, alone=True)
    assert (first.place, second.place) == (PLACE, OTHER)
    assignment.drop([("t", 0)], 0)  # at once: it waits, and is not being written
    assignment.done([second])
    assert assignment.take(0, alone=True) == []
