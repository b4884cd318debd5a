"""Sending no faster than allowed, on a clock that only waiting moves."""

from __future__ import annotations

import asyncio

from csv2kafka.pace import Pace


class Clock:
    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s

    async def sleep(self, seconds: float) -> None:
        assert seconds > 0
        self.now_s += seconds


def test_portions_are_spread_evenly() -> None:
    async def main() -> None:
        clock = Clock()
        pace = Pace(1_000, clock_s=clock, sleep=clock.sleep)
        sent_at = []
        for size_bytes in (500, 2_000, 100, 100):
            await pace.take(size_bytes)
            sent_at.append(round(clock.now_s, 3))
        assert sent_at == [100.0, 100.5, 102.5, 102.6]

    asyncio.run(main())


def test_time_that_was_not_used_is_not_made_up_for() -> None:
    async def main() -> None:
        clock = Clock()
        pace = Pace(1_000, clock_s=clock, sleep=clock.sleep)
        await pace.take(1_000)
        clock.now_s += 60
        for _ in range(3):
            await pace.take(1_000)
        assert clock.now_s == 162.0

    asyncio.run(main())


def test_without_a_limit_nobody_waits() -> None:
    async def main() -> None:
        clock = Clock()
        pace = Pace(None, clock_s=clock, sleep=clock.sleep)
        await pace.take(1 << 40)
        await pace.take(1 << 40)
        assert clock.now_s == 100.0

    asyncio.run(main())
