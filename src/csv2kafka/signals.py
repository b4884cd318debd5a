"""SIGTERM and Ctrl-C: ask the run to stop, and see to it that the process ends in time whatever happens.

A thread of its own watches: the main thread may be deep in a call that lets no Python handler run. What a stopped
run saves is not decided here.
"""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from collections.abc import Callable
from queue import SimpleQueue
from types import FrameType, TracebackType
from typing import Protocol, Self

GRACE_S = 9.5  # of the 10 s that a stop may take
_SAY_S = 0.3
_DONE, _TOO_LATE = 0, -1  # no signal has these numbers


class StopFlag(Protocol):
    def set(self) -> None: ...


class StopSignals:
    """While entered (main thread only): the first signal sets `stop`, Ctrl-C after it ends the process at once.

    If the process is still there `GRACE_S` after the first signal, it ends as well, be the reason a hanging run or
    threads that it left behind. announce: takes a sentence for the user. abandon: reports (sentence, exit code)
    before the process ends without a result. Both may block; nothing here waits long for them.
    """

    def __init__(
        self,
        stop: StopFlag,
        *,
        announce: Callable[[str], None],
        abandon: Callable[[str, int], None],
        grace_s: float = GRACE_S,
        end_process: Callable[[int], object] = os._exit,
    ) -> None:
        self._stop = stop
        self._announce = _Aside(announce)
        self._abandon = _Aside(abandon)
        self._grace_s = grace_s
        self._end_process = end_process
        self._first: int | None = None
        self._inbox, self._outbox = socket.socketpair()
        self._outbox.setblocking(False)
        self._watcher = threading.Thread(target=self._watch, name="stop-signals", daemon=True)

    @property
    def exit_code(self) -> int | None:
        """128 and the first signal's number, None as long as there was none."""
        return None if self._first is None else 128 + self._first

    def __enter__(self) -> Self:
        for thread in (self._announce, self._abandon, self._watcher):
            thread.start()
        # The C level handler writes the signal's number to this socket at once, whatever Python is doing.
        self._old_fd = signal.set_wakeup_fd(self._outbox.fileno(), warn_on_full_buffer=False)
        self._old_handlers = {number: signal.signal(number, _nothing) for number in (signal.SIGTERM, signal.SIGINT)}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._first is not None:
            return  # the watch goes on until the process is gone
        for number, handler in self._old_handlers.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(self._old_fd)
        self._outbox.send(bytes([_DONE]))
        self._watcher.join()
        self._announce.dismiss()
        self._abandon.dismiss()
        self._inbox.close()
        self._outbox.close()

    def _watch(self) -> None:
        number = self._next(None)
        if number == _DONE:
            return
        self._first = number
        try:
            self._see_to_the_end(number)
        except MemoryError:
            self._end_process(128 + number)

    def _see_to_the_end(self, number: int) -> None:
        deadline = time.monotonic() + self._grace_s
        again = "; Ctrl-C again ends at once" if number == signal.SIGINT else ""
        self._stop.set()  # before anything that may take its time
        self._announce.say(f"stopping: what was read is being sent and checkpointed{again}")
        exit_code = 128 + number
        while (number := self._next(deadline)) != _TOO_LATE:
            if number == _DONE:
                return
            if number == signal.SIGINT:
                self._end("interrupted again", 128 + number)
                return
        self._end(f"did not come to an end within {self._grace_s:g} s", exit_code)

    def _next(self, deadline: float | None) -> int:
        """The number of the next signal that is ours, _TOO_LATE when none came before the deadline."""
        while True:
            left_s = None if deadline is None else deadline - time.monotonic()
            if left_s is not None and left_s <= 0:
                return _TOO_LATE
            self._inbox.settimeout(left_s)
            try:
                number = self._inbox.recv(1)[0]
            except TimeoutError:
                return _TOO_LATE
            if number in (signal.SIGTERM, signal.SIGINT, _DONE):  # others with a Python handler come by, too
                return number

    def _end(self, why: str, exit_code: int) -> None:
        self._abandon.say(f"{why}; the rows since the last checkpoint are sorted out by the next run", exit_code)
        self._end_process(exit_code)


class _Aside(threading.Thread):
    """Says one thing, which may block (a full pipe, a terminal that stands still), while nobody has to wait for it.

    A thread that stands ready: when there is something to say, none may be to be had any more.
    """

    def __init__(self, function: Callable[..., None]) -> None:
        super().__init__(daemon=True)
        self._function = function
        self._sayings: SimpleQueue[tuple[object, ...] | None] = SimpleQueue()

    def run(self) -> None:
        saying = self._sayings.get()
        if saying is not None:
            self._function(*saying)

    def say(self, *saying: object) -> None:
        """Return when it is said, or after a while."""
        self._sayings.put(saying)
        self.join(_SAY_S)

    def dismiss(self) -> None:
        self._sayings.put(None)
        self.join()


def _nothing(_number: int, _frame: FrameType | None) -> None:
    """A handler must be there for the C level to write to the socket; it has nothing to do."""
