"""Where the brokers know a relay's producer."""

import pytest

from tk import contact
from tk.contact import Contact
from tk.topics import Topic

TOPIC = Topic("orders", "id", 2)


@pytest.fixture
def made():
    """One that is known in the topic's first partition."""
    made = Contact()
    made.first(lane=1)
    made.arrived(1, "orders", 0)
    return made


def test_a_topic_is_known_when_an_event_has_arrived_in_each_partition(made):
    assert not made.known(TOPIC)
    made.first(lane=2)
    assert made.firsts == {2}
    made.arrived(2, "orders", 1)
    assert made.known(TOPIC)
    assert not made.known(Topic("orders", "id", 3))  # it has grown
    assert not made.known(Topic("others", "id", 1))


def test_a_lane_of_which_an_event_has_arrived_waits_no_more(made):
    made.first(lane=1)
    assert made.firsts == set()


@pytest.mark.parametrize("limit", ["SECONDS", "LANES"])
def test_what_was_long_ago_or_is_too_much_is_forgotten(monkeypatch, limit):
    monkeypatch.setattr(contact, limit, 0)
    made = Contact()
    made.first(lane=1)
    made.arrived(1, "orders", 0)
    made.first(lane=2)
    assert not made.known(Topic("orders", "id", 1))
    assert made.firsts == {2}  # what is on its way is waited for all the same
    made.first(lane=1)
    assert made.firsts == {1, 2}
