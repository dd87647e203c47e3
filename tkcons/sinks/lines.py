"""The tutorial's line for a message: what kafka-python's ConsumerRecord prints, escaped, ended by <br>."""

from typing import Any


def line(message: Any) -> str:
    """``ConsumerRecord(topic='sample-topic', partition=0, offset=0, ..., value=b'hello', ...)<br>`` and a line feed.

    repr() leaves neither line breaks nor control characters in key, value and headers; & < > are escaped, for the
    tutorial shows the file as a page.
    """
    kind, timestamp = message.timestamp()
    key = message.key()
    value = message.value()
    headers = message.headers() or []
    size = sum(len(name.encode()) + len(data or b"") for name, data in headers) if headers else -1
    text = (
        f"ConsumerRecord(topic={message.topic()!r}, partition={message.partition()}, offset={message.offset()}, "
        f"timestamp={timestamp}, timestamp_type={max(kind - 1, 0)}, key={key!r}, value={value!r}, headers={headers!r}, "
        f"checksum=None, serialized_key_size={-1 if key is None else len(key)}, "
        f"serialized_value_size={-1 if value is None else len(value)}, serialized_header_size={size})"
    )
    if "&" in text or "<" in text or ">" in text:
        text = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return f"{text}<br>\n"
