"""What Kafka answers about offsets, taken as it is meant."""

from datetime import UTC, datetime
from types import SimpleNamespace

import pytest
from confluent_kafka import KafkaError, KafkaException

from tkcons.seeking import at_time


class Answers:
    """A consumer to whom Kafka answers this for the one partition that is asked for."""

    def __init__(self, offset: int, error: KafkaError | None = None) -> None:
        self._answer = SimpleNamespace(offset=offset, error=error)

    def offsets_for_times(self, asked, timeout):
        assert [(each.topic, each.partition, each.offset) for each in asked] == [("orders", 3, 1_500)]
        return [self._answer]


def look(answers: Answers) -> int:
    return at_time(answers, "orders", 3, datetime.fromtimestamp(1.5, UTC), 100)


def test_the_first_message_of_a_time():
    assert look(Answers(40)) == 40
    assert look(Answers(-1)) == 100  # nothing is so late


def test_a_time_that_could_not_be_looked_up_is_not_the_end():
    """The real broker gives no such answer on demand: its leader is just moving."""
    with pytest.raises(KafkaException):
        look(Answers(-1001, KafkaError(KafkaError.OFFSET_NOT_AVAILABLE)))
