"""The pytest plugin of tk: the fixture `kafka_outbox`. Django is not set up yet when pytest reads this."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tk.testing import KafkaOutbox


@pytest.fixture
def kafka_outbox() -> "Iterator[KafkaOutbox]":
    """Kafka in memory: what the test produced and published is in `kafka_outbox.messages`; see tk.testing."""
    from tk.testing import KafkaOutbox

    with KafkaOutbox() as made:
        yield made
