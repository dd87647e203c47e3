"""Batches on the fast lane: laid down as they arrive, sent by a thread, answered in pieces.

Answered as tk.views does it, without what Django's handler and middleware cost a request.
"""

import asyncio
import os
import tempfile
from collections.abc import AsyncGenerator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from typing import IO, Any

from tk import answer, batch
from tk import request as requests
from tk.answer import Answer
from tk.aproducer import Here
from tk.conf import settings
from tk.head import Head
from tk.lines import PIECE
from tk.scope import Body, TooMuch

THREADS = 8  # batches that a process sends at a time; the others wait, at most their first bytes in memory
IN_MEMORY = 4 << 20  # bytes of a body; more goes to the disk


async def produce(head: Head, body: Body, here: Here) -> tuple[Answer, AsyncGenerator[bytes, None]]:
    """The answer without its body, and the body's pieces. Raises what tk.batch.produce raises, and SlowBody or Gone."""
    plan = batch.plan(head.query, head.kind, head.encoding)
    head.require(plan.topic)
    with ExitStack() as stack:
        file = stack.enter_context(tempfile.SpooledTemporaryFile(IN_MEMORY))
        try:
            await body.spool(file, here.deadlines)
        except TooMuch:
            raise requests.too_large(settings.MAX_BATCH_BYTES) from None
        stack.pop_all()  # it is the thread's to close
    pieces = await _in_thread(_sent, plan, file)
    kind = answer.JSON if plan.summary else requests.NDJSON
    return Answer(200, kind, b"", (("Cache-Control", "no-store"),)), _followed(pieces)


def _sent(plan: batch.Plan, file: IO[bytes]) -> Any:
    with file:
        file.seek(0)
        return batch.produce(plan, iter(lambda: file.read(PIECE), b""))


async def _followed(pieces: Any) -> AsyncGenerator[bytes, None]:
    with closing(pieces):
        waiting = iter(pieces)
        while (piece := await _in_thread(next, waiting, None)) is not None:
            yield piece


async def _in_thread(work: Callable[..., Any], *arguments: Any) -> Any:
    return await asyncio.get_running_loop().run_in_executor(_threads, work, *arguments)


_threads = ThreadPoolExecutor(THREADS, "tk-batch")


def _after_fork() -> None:
    """The parent's threads are not in a child."""
    global _threads
    _threads = ThreadPoolExecutor(THREADS, "tk-batch")


os.register_at_fork(after_in_child=_after_fork)
