from confluent_kafka import Message

from tkcons.sinks.lines import CHUNK, json_lines, lines


def message(**parts):
    given = {"topic": "sample-topic", "partition": 0, "offset": 0, "timestamp": (1, 1700000000000), "value": b"hello"}
    return Message(**{**given, **parts})


def line(message):
    return lines([message]).decode()


def test_the_tutorials_line():
    assert line(message()) == (
        "ConsumerRecord(topic='sample-topic', partition=0, offset=0, timestamp=1700000000000, timestamp_type=0, key=None, "
        "value=b'hello', headers=[], checksum=None, serialized_key_size=-1, serialized_value_size=5, "
        "serialized_header_size=-1)<br>\n"
    )


def test_a_stranger_writes_no_tag_and_no_second_line():
    hostile = b"</pre><script>alert(1)</script>\n&"
    text = line(message(key=hostile, value=hostile, headers=[("<b>\n", hostile)]))
    body = text.removesuffix("<br>\n")
    assert "<" not in body
    assert ">" not in body
    assert "\n" not in body
    assert "&lt;script&gt;" in body


def test_a_tombstone_and_log_append_time():
    text = line(message(value=None, key=b"k", timestamp=(2, 5)))
    assert "value=None" in text
    assert "serialized_key_size=1, serialized_value_size=-1" in text
    assert "timestamp=5, timestamp_type=1" in text


def test_many_lines_are_those_of_each_message():
    many = [message(offset=number, value=b"<%d>" % number) for number in range(2 * CHUNK + 1)]
    assert lines(many).decode() == "".join(map(line, many))
    assert json_lines(many) == b"".join(json_lines([each]) for each in many)
