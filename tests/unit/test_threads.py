"""A blocking call is never left behind by a caller that is cancelled."""

from __future__ import annotations

import asyncio
import gc
import threading

import pytest

from csv2kafka.threads import in_thread


def test_it_gives_back_what_the_call_gives() -> None:
    assert asyncio.run(in_thread(divmod, 7, 2)) == (3, 1)


def test_a_cancelled_caller_leaves_only_when_the_call_is_over() -> None:
    began, may_end, ended = threading.Event(), threading.Event(), threading.Event()

    def save() -> None:
        began.set()
        may_end.wait()
        ended.set()

    async def main() -> None:
        caller = asyncio.create_task(in_thread(save))
        await asyncio.to_thread(began.wait)
        caller.cancel()
        assert not (await asyncio.wait((caller,), timeout=0.05))[0]
        may_end.set()
        with pytest.raises(asyncio.CancelledError):
            await caller
        assert ended.is_set()

    asyncio.run(main())


def test_a_failure_that_a_cancelled_caller_misses_is_not_printed(caplog: pytest.LogCaptureFixture) -> None:
    began, may_end = threading.Event(), threading.Event()

    def fail() -> None:
        began.set()
        may_end.wait()
        raise ZeroDivisionError

    async def main() -> None:
        caller = asyncio.create_task(in_thread(fail))
        await asyncio.to_thread(began.wait)
        caller.cancel()
        await asyncio.sleep(0)
        may_end.set()
        with pytest.raises(asyncio.CancelledError):
            await caller
        del caller
        gc.collect()

    asyncio.run(main())
    assert caplog.text == ""


def test_a_failing_call_fails_its_caller() -> None:
    with pytest.raises(ZeroDivisionError):
        asyncio.run(in_thread(divmod, 1, 0))
