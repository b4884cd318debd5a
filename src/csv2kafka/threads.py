"""Blocking calls beside an event loop, without leaving one behind."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
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
