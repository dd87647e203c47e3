"""What every sink must do: inherit, and give `make` (a new sink on the same storage) and `stored` (what is in it)."""

import pytest
from confluent_kafka import Message

from tk.record import EVENT_ID_HEADER
from tkcons.errors import StaleOwner
from tkcons.sinks.base import Batch, Claim, Place, Sink

PLACE = Place("orders", "id-1", 0)
OTHER = Place("orders", "id-1", 1)


def message(place: Place, offset: int, **parts: object) -> Message:
    given = {
        "key": place.topic_id.encode(),
        "value": f"v{offset}".encode(),
        "timestamp": (1, 1_700_000_000_000 + offset),
    }
    return Message(topic=place.topic, partition=place.partition, offset=offset, **{**given, **parts})


def batch(place: Place, claim: Claim, *offsets: int) -> Batch:
    return Batch(place, claim, [message(place, offset) for offset in offsets], offsets[-1] + 1)


class SinkContract:
    def make(self) -> Sink:
        raise NotImplementedError

    def stored(self) -> list[tuple[int, int]]:
        """(partition, offset) of everything stored, in the order of storing."""
        raise NotImplementedError

    @pytest.fixture
    def sink(self):
        made = self.make()
        made.open()
        yield made
        made.close()

    def begun(self, sink: Sink, *places: Place) -> dict[Place, Claim]:
        sink.begin(dict.fromkeys(places, 0))
        return sink.claim(places)

    def test_an_unknown_place_has_no_claim(self, sink):
        assert sink.claim([PLACE]) == {}
        assert not sink.knows("orders")

    def test_a_place_begins_where_it_is_told_once(self, sink):
        sink.begin({PLACE: 7})
        sink.begin({PLACE: 0})
        assert sink.claim([PLACE])[PLACE].next_offset == 7
        assert sink.knows("orders")

    def test_where_a_place_began_is_kept(self, sink):
        sink.begin({PLACE: 7, OTHER: 3})
        claim = sink.claim([PLACE])[PLACE]
        sink.write([batch(PLACE, claim, 7, 8)])
        assert sink.begun([PLACE, PLACE._replace(topic_id="id-2")]) == {PLACE: 7}

    def test_a_topic_made_again_is_another_place(self, sink):
        self.begun(sink, PLACE)
        assert sink.claim([PLACE._replace(topic_id="id-2")]) == {}
        assert sink.knows("orders")

    def test_batches_are_stored_and_positions_advance(self, sink):
        claims = self.begun(sink, PLACE, OTHER)
        sink.write([batch(PLACE, claims[PLACE], 0, 1), batch(OTHER, claims[OTHER], 0)])
        assert sorted(self.stored()) == [(0, 0), (0, 1), (1, 0)]
        again = sink.claim([PLACE, OTHER])
        assert again[PLACE].next_offset == 2
        assert again[OTHER].next_offset == 1

    def test_a_second_batch_goes_on(self, sink):
        claim = self.begun(sink, PLACE)[PLACE]
        sink.write([batch(PLACE, claim, 0, 1)])
        sink.write([batch(PLACE, claim._replace(next_offset=2), 2, 5)])
        assert self.stored() == [(0, 0), (0, 1), (0, 2), (0, 5)]
        assert sink.claim([PLACE])[PLACE].next_offset == 6

    def test_each_claim_raises_the_generation(self, sink):
        first = self.begun(sink, PLACE)[PLACE]
        assert sink.claim([PLACE])[PLACE].generation == first.generation + 1

    def test_an_older_owner_stores_nothing(self, sink):
        claims = self.begun(sink, PLACE, OTHER)
        sink.claim([OTHER])
        with pytest.raises(StaleOwner):
            sink.write([batch(PLACE, claims[PLACE], 0), batch(OTHER, claims[OTHER], 0)])
        assert self.stored() == []
        assert sink.claim([PLACE])[PLACE].next_offset == 0

    def test_the_same_batch_is_not_stored_twice(self, sink):
        claim = self.begun(sink, PLACE)[PLACE]
        sink.write([batch(PLACE, claim, 0)])
        with pytest.raises(StaleOwner):
            sink.write([batch(PLACE, claim, 0)])
        assert self.stored() == [(0, 0)]

    def test_after_a_refusal_the_owner_goes_on(self, sink):
        claims = self.begun(sink, PLACE)
        new = sink.claim([PLACE])
        with pytest.raises(StaleOwner):
            sink.write([batch(PLACE, claims[PLACE], 0)])
        sink.write([batch(PLACE, new[PLACE], 0)])
        assert self.stored() == [(0, 0)]

    def test_it_is_all_there_after_closing_and_opening(self, sink):
        claim = self.begun(sink, PLACE)[PLACE]
        sink.write([batch(PLACE, claim, 0)])
        sink.close()
        sink.open()
        assert sink.claim([PLACE])[PLACE].next_offset == 1
        assert self.stored() == [(0, 0)]

    def test_a_repeated_event_is_stored_once(self, sink):
        claims = self.begun(sink, PLACE, OTHER)

        def event(place: Place, offset: int, name: str) -> Message:
            return message(place, offset, headers=[("other", b"x"), (EVENT_ID_HEADER, name.encode())])

        first = [event(PLACE, 0, "a"), message(PLACE, 1), event(PLACE, 2, "a"), event(PLACE, 3, "b")]
        sink.write([Batch(PLACE, claims[PLACE], first, 4)])
        sink.write([Batch(OTHER, claims[OTHER], [event(OTHER, 0, "b"), event(OTHER, 1, "c")], 2)])
        sink.write([Batch(PLACE, claims[PLACE]._replace(next_offset=4), [event(PLACE, 4, "c")], 5)])
        assert self.stored() == [(0, 0), (0, 1), (0, 3), (1, 1)]
        assert sink.claim([PLACE])[PLACE].next_offset == 5

    def test_an_event_whose_batch_was_refused_is_no_repeat(self, sink):
        claim = self.begun(sink, PLACE)[PLACE]
        new = sink.claim([PLACE])[PLACE]
        messages = [message(PLACE, 0, headers=[(EVENT_ID_HEADER, b"a")])]
        with pytest.raises(StaleOwner):
            sink.write([Batch(PLACE, claim, messages, 1)])
        sink.write([Batch(PLACE, new, messages, 1)])
        assert self.stored() == [(0, 0)]

    def test_what_is_no_event_id_is_stored_each_time(self, sink):
        claim = self.begun(sink, PLACE)[PLACE]
        strange = [None, b"", b"\x00", b"\xff", b"x" * 101] * 2
        messages = [message(PLACE, n, headers=[(EVENT_ID_HEADER, value)]) for n, value in enumerate(strange)]
        sink.write([Batch(PLACE, claim, messages, len(messages))])
        assert self.stored() == [(0, offset) for offset in range(10)]

    def test_every_kind_of_message(self, sink):
        claim = self.begun(sink, PLACE)[PLACE]
        kinds = [
            message(PLACE, 0, value=None, key=b"k"),
            message(PLACE, 1, value="grüße 🎉".encode()),
            message(PLACE, 2, value=b"\x00\xff", key=b"\xfe"),
            message(PLACE, 3, value=b"<script>\n</script>", headers=[("a", b"b"), ("n", None), ("x", b"\xff")]),
            message(PLACE, 4, value=b"x" * 1_048_576),
            message(PLACE, 5, timestamp=(0, -1)),
        ]
        sink.write([Batch(PLACE, claim, kinds, 6)])
        assert self.stored() == [(0, offset) for offset in range(6)]
