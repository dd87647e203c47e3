"""A place in the stream of stored messages: the next offset of every partition, as text for addresses and events.

Primary keys are no such place: on PostgreSQL they are not in the order of commits, and whoever remembers the highest one
misses what commits later under a lower one. A position moves in the transaction that stores the rows before it.
"""

import base64
import binascii
from collections.abc import Mapping

from django.utils.translation import gettext_noop as _

from tk.errors import BadRequest


class BadCursor(BadRequest):
    text = _("The cursor in the address is not one that this page gave.")
    code = "bad_cursor"


MARK = "c"

Offsets = dict[int, int]  # the position's primary key -> the next offset


def dump(offsets: Mapping[int, int]) -> str:
    """About ten characters a partition: differences of the keys and the offsets as variable-length numbers, in base64.

    The letter before them keeps it from being empty, which a browser would not send as Last-Event-ID.
    """
    data, before = bytearray(), 0
    for key, offset in sorted(offsets.items()):
        _write(data, key - before)
        _write(data, offset)
        before = key
    return MARK + base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def load(text: str) -> Offsets:
    """The inverse of `dump`. Raises BadCursor."""
    if not text.startswith(MARK):
        raise BadCursor
    text = text.removeprefix(MARK)
    try:
        data = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except (ValueError, binascii.Error) as error:
        raise BadCursor from error
    numbers = _read(data)
    if len(numbers) % 2:
        raise BadCursor
    offsets, key = {}, 0
    for step, offset in zip(numbers[::2], numbers[1::2], strict=True):
        key += step
        offsets[key] = offset
    return offsets


def _write(data: bytearray, number: int) -> None:
    while number > 0x7F:
        data.append(number & 0x7F | 0x80)
        number >>= 7
    data.append(number)


def _read(data: bytes) -> list[int]:
    numbers, number, shift = [], 0, 0
    for byte in data:
        number |= (byte & 0x7F) << shift
        shift += 7
        if shift > 63:
            raise BadCursor
        if byte < 0x80:
            numbers.append(number)
            number = shift = 0
    if shift:
        raise BadCursor
    return numbers
