"""A blocking call is never left behind by a caller that is cancelled; a started pool needs no more threads."""

from __future__ import annotations

import asyncio
import gc
import threading

import pytest

from csv2kafka.threads import in_thread, run_on_a_loop, started_pool


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


def test_a_started_pool_starts_no_thread_any_more() -> None:
    with started_pool(3, "ready") as pool:
        before = threading.active_count()
        assert list(pool.map(abs, range(-20, 0))) == list(range(20, 0, -1))
        assert threading.active_count() == before


def test_a_pool_that_cannot_start_leaves_no_thread_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    before, started = threading.active_count(), []
    start = threading.Thread.start

    def refuse_the_second(thread: threading.Thread) -> None:
        if started:
            raise RuntimeError("can't start new thread")
        started.append(thread)
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", refuse_the_second)
    with pytest.raises(RuntimeError, match="new thread"):
        started_pool(2, "never")
    started[0].join(10)
    assert threading.active_count() == before


def test_a_loop_of_ours_starts_no_thread_while_it_works_and_leaves_none_behind() -> None:
    outside = threading.active_count()

    async def work() -> int:
        before = threading.active_count()
        result = await asyncio.to_thread(abs, -7)
        assert threading.active_count() == before
        return result

    assert run_on_a_loop(work()) == 7
    assert threading.active_count() == outside
