"""The audit's comparison, against the plain sets that it must agree with."""

from hypothesis import given
from hypothesis import strategies as st

from tkcons.audit import Report, compare
from tkcons.models import Position

offsets = st.sets(st.integers(0, 40))


@given(offsets, st.lists(st.integers(0, 40)), st.lists(st.tuples(st.integers(0, 40), st.integers(0, 10))))
def test_counts_are_those_of_sets(served, rows, ranges):
    report = Report(Position())
    compare(report, sorted(served), sorted(rows), sorted((first, first + size) for first, size in ranges))
    covered = {offset for first, size in ranges for offset in range(first, first + size)}
    unstored = served - set(rows)
    assert report.stored == len(set(rows))
    assert report.duplicate == len(rows) - len(set(rows))
    assert report.accounted == len(unstored & covered)
    assert report.missing == len(unstored - covered)
    assert report.missing_offsets == sorted(unstored - covered)[:10]
    assert report.good == (not unstored - covered and report.duplicate == 0)
