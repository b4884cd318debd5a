"""No faster than the operator allows, evenly: each portion waits until those before it have had their time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable


class Pace:
    """At most `bytes_per_s` over any stretch of time, but for the first portion of it; None: as fast as it goes."""

    def __init__(
        self,
        bytes_per_s: int | None,
        *,
        clock_s: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._bytes_per_s = bytes_per_s
        self._clock_s = clock_s
        self._sleep = sleep
        self._free_s = 0.0  # when the next portion may go

    async def take(self, size_bytes: int) -> None:
        """Return when so many bytes may be sent."""
        if self._bytes_per_s is None:
            return
        now_s = self._clock_s()
        start_s = max(now_s, self._free_s)  # time that was not used is not made up for
        self._free_s = start_s + size_bytes / self._bytes_per_s
        if start_s > now_s:
            await self._sleep(start_s - now_s)
