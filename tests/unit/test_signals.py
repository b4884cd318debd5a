"""Stop signals, with real ones sent to this process; only its end is a stand-in."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from queue import SimpleQueue

import pytest

from csv2kafka.signals import StopSignals


@pytest.fixture(autouse=True)
def _handlers_come_back() -> Iterator[None]:
    """After a signal the watch goes on, on purpose: take it down by hand."""
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    yield
    signal.set_wakeup_fd(-1)
    for number, handler in handlers.items():
        signal.signal(number, handler)


class Watched:
    """A StopSignals whose reports can be waited for."""

    def __init__(self, grace_s: float = 60) -> None:
        self.stop = threading.Event()
        self.said: SimpleQueue[str] = SimpleQueue()
        self.abandoned: SimpleQueue[tuple[str, int]] = SimpleQueue()
        self.ended: SimpleQueue[int] = SimpleQueue()
        self.signals = StopSignals(
            self.stop,
            announce=self.said.put,
            abandon=lambda message, code: self.abandoned.put((message, code)),
            grace_s=grace_s,
            end_process=self.ended.put,
        )


@pytest.mark.parametrize(("number", "exit_code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_the_first_signal_asks_for_a_stop(number: signal.Signals, exit_code: int) -> None:
    watched = Watched()
    with watched.signals as signals:
        assert signals.exit_code is None
        os.kill(os.getpid(), number)
        assert watched.stop.wait(5)
        assert signals.exit_code == exit_code
        assert watched.said.get(timeout=5).startswith("stopping: ")
    assert watched.ended.empty()


def test_ctrl_c_again_ends_at_once() -> None:
    watched = Watched()
    with watched.signals:
        os.kill(os.getpid(), signal.SIGTERM)
        assert watched.stop.wait(5)
        os.kill(os.getpid(), signal.SIGTERM)  # orchestrators repeat themselves: no reason to hurry
        os.kill(os.getpid(), signal.SIGINT)
        assert watched.ended.get(timeout=5) == 130
    message, code = watched.abandoned.get(timeout=5)
    assert message.startswith("interrupted again")
    assert code == 130


def test_a_run_that_hangs_is_ended_with_the_first_signals_code() -> None:
    watched = Watched(grace_s=0.05)
    with watched.signals:
        os.kill(os.getpid(), signal.SIGTERM)
        assert watched.ended.get(timeout=5) == 143
    message, _ = watched.abandoned.get(timeout=5)
    assert message.startswith("did not come to an end within 0.05 s")


def test_the_watch_goes_on_after_the_run_until_the_process_is_gone() -> None:
    watched = Watched(grace_s=0.2)
    with watched.signals:
        os.kill(os.getpid(), signal.SIGINT)
        assert watched.stop.wait(5)
    assert watched.ended.get(timeout=5) == 130


def test_a_blocked_stderr_delays_nothing() -> None:
    forever, ended, stop = threading.Event(), SimpleQueue[int](), threading.Event()

    def block(*_: object) -> None:
        forever.wait()

    watched = StopSignals(
        stop,
        announce=block,
        abandon=block,
        grace_s=0.05,
        end_process=ended.put,
    )
    with watched:
        os.kill(os.getpid(), signal.SIGTERM)
        assert ended.get(timeout=5) == 143
    forever.set()


def test_without_a_signal_everything_is_as_before() -> None:
    before, threads = (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)), threading.enumerate()
    watched = Watched()
    with watched.signals:
        assert signal.getsignal(signal.SIGTERM) != before[0]
    assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == before
    assert set(threading.enumerate()) <= set(threads)
    assert not watched.stop.is_set()


def test_other_signals_are_none_of_its_business() -> None:
    watched = Watched()
    old = signal.signal(signal.SIGUSR1, lambda *_: None)
    try:
        with watched.signals:
            os.kill(os.getpid(), signal.SIGUSR1)
    finally:
        signal.signal(signal.SIGUSR1, old)
    assert not watched.stop.is_set()
