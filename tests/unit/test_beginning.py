"""Where a group began, as Kafka is told it and gives it back."""

import pytest
from confluent_kafka import TopicPartition

from tkcons.beginning import tell, told
from tkcons.sinks.base import Place

PLACE = Place("orders", "/taLk3aUS7OZlb1kiwmPE+", 0)


@pytest.mark.parametrize("began_at", [0, 7, 2**59])
def test_what_kafka_is_told_is_understood(began_at):
    committed = tell(PLACE, 9, began_at)
    assert (committed.topic, committed.partition, committed.offset) == ("orders", 0, 9)
    assert told(PLACE, committed) == began_at
    assert told(PLACE._replace(topic_id="A" * 22), committed) == 0


@pytest.mark.parametrize(
    "said",
    [
        "",
        "anything",
        "tkcons: began at -1 of /taLk3aUS7OZlb1kiwmPE+",
        "tkcons: began at ٣ of /taLk3aUS7OZlb1kiwmPE+",
        f"tkcons: began at {10**18} of /taLk3aUS7OZlb1kiwmPE+",
        "tkcons: began at 7 of /taLk3aUS7OZlb1kiwmPE+\n",
    ],
)
def test_what_another_client_has_committed_is_its_own(said):
    assert told(PLACE, TopicPartition("orders", 0, 9, said)) is None


def test_a_sink_that_does_not_keep_it_tells_nothing():
    assert told(PLACE, tell(PLACE, 9, None)) is None
    assert told(PLACE, TopicPartition("orders", 0, 9)) is None
