"""A message as a handler gets it, and how its value is read."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, overload

import msgspec
from confluent_kafka import TIMESTAMP_NOT_AVAILABLE, Message

Decode = Callable[[Any], Any]


class Received(msgspec.Struct, frozen=True, gc=False):
    """A Kafka message and its decoded value. `message` is confluent_kafka's own, for what is not offered here."""

    message: Any
    value: Any  # None: a tombstone

    @property
    def topic(self) -> str:
        return str(self.message.topic())

    @property
    def partition(self) -> int:
        return int(self.message.partition())

    @property
    def offset(self) -> int:
        return int(self.message.offset())

    @property
    def timestamp(self) -> int | None:
        """Milliseconds since 1970; None: the message has none."""
        kind, timestamp = self.message.timestamp()
        return None if kind == TIMESTAMP_NOT_AVAILABLE else int(timestamp)

    @property
    def key(self) -> bytes | None:
        key: bytes | None = self.message.key()
        return key

    @property
    def headers(self) -> list[tuple[str, bytes | None]]:
        """Name and value, in the order they were sent; a name may come twice."""
        return list(self.message.headers() or ())


class Messages(Sequence[Received]):
    """The messages of one call, in their order. Each is made when it is looked at: nobody pays for those that are not."""

    __slots__ = ("_messages", "_values")

    def __init__(self, messages: Sequence[Any], values: Sequence[Any] | None = None) -> None:
        """messages: confluent_kafka's. values: what theirs were decoded to; None: they are taken as they are."""
        self._messages = messages
        self._values = values

    def __len__(self) -> int:
        return len(self._messages)

    def __iter__(self) -> Iterator[Received]:
        values = map(Message.value, self._messages) if self._values is None else self._values
        return map(Received, self._messages, values)

    @overload
    def __getitem__(self, index: int) -> Received: ...

    @overload
    def __getitem__(self, index: slice) -> "Messages": ...

    def __getitem__(self, index: int | slice) -> "Received | Messages":
        if isinstance(index, slice):
            return Messages(self._messages[index], None if self._values is None else self._values[index])
        message = self._messages[index]
        return Received(message, message.value() if self._values is None else self._values[index])

    def __repr__(self) -> str:
        return f"Messages({list(self)!r})"


def decoder(wanted: Any) -> Decode:
    """The function that gives a message's decoded value; what it raises makes the message a dead letter.

    wanted: bytes, str (UTF-8), a type that JSON is read into (dict, a dataclass, a msgspec Struct, a TypedDict,
    list[Order], a pydantic model), or a function of your own that takes confluent_kafka's Message.
    """
    if wanted is bytes:
        return Message.value
    if wanted is str:
        return _of_value(bytes.decode)
    if hasattr(wanted, "model_validate_json"):  # pydantic
        return _of_value(wanted.model_validate_json)
    if isinstance(wanted, type) or hasattr(wanted, "__origin__") or wanted is Any:
        return _of_value(msgspec.json.Decoder(wanted).decode)
    if callable(wanted):
        own: Decode = wanted
        return own
    raise TypeError(f"decode={wanted!r} is neither a type nor a function.")


def _of_value(read: Callable[[bytes], Any]) -> Decode:
    def decode(message: Any) -> Any:
        value = message.value()
        return None if value is None else read(value)

    return decode
