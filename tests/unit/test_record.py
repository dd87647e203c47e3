from hypothesis import given
from hypothesis import strategies as st

from tk.record import dump_headers, load_headers

HEADERS = st.lists(st.tuples(st.text(), st.none() | st.binary() | st.text().map(str.encode))).map(tuple)


@given(HEADERS)
def test_headers_survive_the_database(headers):
    assert load_headers(dump_headers(headers)) == headers


def test_no_headers_take_no_room():
    assert dump_headers(()) is None
