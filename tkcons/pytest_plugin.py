"""The pytest plugin of tkcons: the fixture `run_consumer`. Django is not set up yet when pytest reads this."""

from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tkcons.testing import Consumed


@pytest.fixture
def run_consumer(db: None) -> "Callable[..., Consumed]":
    """``run_consumer(handler, messages)``: as their group would handle them, without Kafka; see tkcons.testing."""
    from tkcons.testing import run_consumer

    return run_consumer
