"""The order of windows; what is in them is in tests/integration/test_batch.py."""

from tk import pipeline


def test_windows_are_told_in_their_order_whichever_lands_first(monkeypatch):
    class Flight:
        """Window 0 lands when it is waited for, the others at once."""

        def __init__(self, window, through, telling):
            self.number = window[0]
            self.landed = self.number != 0

        def wait(self):
            return self

    monkeypatch.setattr(pipeline, "Flight", Flight)
    told = [flight.number for flight in pipeline.sending([[number] for number in range(20)])]
    assert told == list(range(20))
