"""Blocking calls beside an event loop, without leaving one behind; threads for them that run already."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import Any, ParamSpec, TypeVar

_ASIDE = 4  # calls at a time: the store, the file, a name to be resolved

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


class _Loop(asyncio.SelectorEventLoop):
    """An event loop whose threads all run from the beginning, and that needs no other one to end."""

    def __init__(self) -> None:
        super().__init__()
        self._aside = started_pool(_ASIDE, "csv2kafka-aside")
        self.set_default_executor(self._aside)

    async def shutdown_default_executor(self, *_: object) -> None:
        """Wait here, not in a thread started for it: nothing else runs on the loop by now."""
        self._aside.shutdown()


def run_on_a_loop(work: Coroutine[Any, Any, Result]) -> Result:
    """As `asyncio.run`."""
    with asyncio.Runner(loop_factory=_Loop) as runner:
        return runner.run(work)


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


def close(*generators: object) -> None:
    """In the thread that ran them, as a generator that runs cannot be closed."""
    for generator in generators:
        with closing(generator):  # type: ignore[type-var]
            pass
