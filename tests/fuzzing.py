"""What strangers send: right requests, cut, changed and spliced. A seed repeats them.

FUZZ: cases for each reader (default 1,000; in CI 10,000). FUZZ_SEED: others. A hundred thousand of each, some minutes:

    FUZZ=100000 FUZZ_SEED=7 python -m pytest tests/unit/test_fuzz.py tests/unit/test_fuzz_http.py --timeout 0
"""

import os
import random
import time
from collections.abc import Callable, Iterator, Sequence

CASES = int(os.environ.get("FUZZ", "10000" if os.environ.get("CI") else "1000"))
SEED = os.environ.get("FUZZ_SEED", "1")
SECONDS = 2.0  # of this thread's own time for one case, which is a kilobyte or so: a hang, or a quadratic reader

WORDS = [
    *(
        b"",
        b"\0",
        b"\xff",
        b"\xc3",
        b"\xed\xa0\x80",
        "ü".encode(),
        "٣".encode(),
        "\u2028".encode(),
        b"\r\n",
        b"\t",
        b" ",
    ),
    *(b"%", b"%00", b"%ff", b"%u0041", b"&", b"=", b"+", b"&message=", b"&topic=..", b"&partition=-1", b"&a=b" * 60),
    *(
        b'"',
        b"'",
        b"\\",
        b"\\u0000",
        b"\\ud800",
        b"[",
        b"]",
        b"{",
        b"}",
        b",",
        b":",
        b"[[[[",
        b'{"a":' * 40,
        b"null",
        b"true",
    ),
    *(
        b"-1",
        b"0",
        b"9" * 19,
        b"9" * 25,
        b"1e999",
        b"NaN",
        b"-0.0",
        b"0x1",
        b"1_0",
        b"2147483648",
        b"9223372036854775808",
    ),
    *(b";", b"/", b"..", b"*", b"(", b"<script>", b"\x1b[0m", b"utf-8", b"base64", b"=?utf-8?q?=00?=", b"a" * 300),
]

# What stands where a time does: the calendar's ends, the time before 1970, offsets and zones.
TIMES = [
    *(b"0001-01-01T00:00", b"9999-12-31T23:59:59.999999", b"1969-12-31T23:59:59.999", b"1969-12-31T23:59:59.998000"),
    *(b"%2B14:00", b"-23:59", b"Z", b"&zone=America/St_Johns", b"&zone=Asia/Kolkata", b"&zone=../x", b"2026-02-30"),
]


def cases(right: Sequence[bytes], words: Sequence[bytes] = (), count: int = CASES) -> Iterator[bytes]:
    """The right ones, then what becomes of them. words: what stands in such requests, beside WORDS."""
    draw = random.Random(f"{SEED}/{right!r}")
    yield from right
    for _ in range(count - len(right)):
        yield changed(draw, right, [*words, *WORDS] if words else WORDS)


def changed(draw: random.Random, right: Sequence[bytes], words: Sequence[bytes] = WORDS) -> bytes:
    data = bytearray(draw.choice(right) if draw.random() < 0.95 else draw.randbytes(draw.randrange(60)))
    for _ in range(draw.choice((1, 1, 1, 2, 3, 6))):
        at = draw.randrange(len(data) + 1)
        match draw.randrange(6):
            case 0 | 1:
                data[at : at + draw.choice((0, 0, 1, 4))] = draw.choice(words)
            case 2:
                data[at : at + draw.randrange(3)] = draw.randbytes(draw.randrange(1, 4))
            case 3:
                del data[at : at + draw.randrange(1, 12)]
            case 4:  # the end of another
                other = draw.choice(right)
                data[at:] = other[draw.randrange(len(other) + 1) :]
            case 5:
                data[at:at] = data[at : at + draw.randrange(1, 20)] * draw.choice((1, 1, 2, 30))
    return bytes(data)


def fuzz(read: Callable[[bytes], object], right: Sequence[bytes], words: Sequence[bytes] = ()) -> None:
    """Let it read every case; it may raise AssertionError alone, and must come to an end. A failure shows its case."""
    for case in cases(right, words):
        began = time.thread_time()
        try:
            read(case)
        except Exception as error:
            raise AssertionError(f"{case!r} (FUZZ_SEED={SEED})") from error
        seconds = time.thread_time() - began
        assert seconds < SECONDS, f"{seconds:.1f} s for {case!r}"
