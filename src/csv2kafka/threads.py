"""Blocking calls beside an event loop, without leaving one behind; threads for them that run already."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec, TypeVar

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


async def in_thread(function: Callable[Arguments, Result], *args: Arguments.args, **kwargs: Arguments.kwargs) -> Result:
    """As `asyncio.to_thread`, but a cancelled caller leaves only when the call is over.

    A checkpoint store takes one call at a time: a save abandoned half way would race with the next one.
    """
    call = asyncio.ensure_future(asyncio.to_thread(function, *args, **kwargs))
    try:
        return await asyncio.shield(call)
    except asyncio.CancelledError:
        await asyncio.wait((call,))
        if not call.cancelled():
            call.exception()  # looked at, for asyncio, which would print a failure that nobody heard of
        raise


def started_pool(workers: int, name: str) -> ThreadPoolExecutor:
    """A pool whose threads all run by now.

    Started when they are needed, they may get a stack and then no memory, and Python waits for such a thread for ever.
    """
    pool = ThreadPoolExecutor(workers, name)
    together = threading.Barrier(workers)  # keeps each of them busy, so that the next one is started
    try:
        for done in [pool.submit(together.wait) for _ in range(workers)]:
            done.result()
    except BaseException:
        together.abort()
        pool.shutdown(wait=False)
        raise
    return pool
