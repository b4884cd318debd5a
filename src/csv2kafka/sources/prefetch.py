"""Fetches the parts of an object side by side and hands their bytes out in order. Threads and memory, no network.

Each lane is one thread that fetches every n-th part. It begins its next part only when its last one was taken, so
`lanes` parts at most are in memory, and a consumer that waits (for Kafka) leaves no half-read answer to go stale.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from queue import SimpleQueue
from typing import Protocol

# How long closing a read waits for its threads; they are awake then, unless they wait for an answer to begin.
_JOIN_S = 1.0


@dataclass(frozen=True, slots=True)
class ReadAhead:
    """How much is fetched ahead: at most `lanes` times `part_bytes` are in memory, besides the piece handed out."""

    lanes: int = 4
    part_bytes: int = 8 << 20
    piece_bytes: int = 2 << 20


class Stopped(Exception):
    """Ends a fetch whose read was closed. Never leaves this package."""


class Stop:
    """Tells every thread of one read to end, also those that wait."""

    def __init__(self) -> None:
        self._event = threading.Event()
        self._lock = threading.Lock()
        self._wakers: set[Callable[[], None]] = set()

    def set(self) -> None:
        with self._lock:
            self._event.set()
            for wake in self._wakers:
                wake()

    def is_set(self) -> bool:
        return self._event.is_set()

    def wait(self, seconds: float) -> None:
        """Pause. Raises Stopped as soon as the read is closed."""
        if self._event.wait(seconds):
            raise Stopped

    @contextmanager
    def waking(self, wake: Callable[[], None]) -> Iterator[None]:
        """Inside, `set` calls `wake`, which must not block nor raise; never after it. Raises Stopped."""
        with self._lock:
            if self._event.is_set():
                raise Stopped
            self._wakers.add(wake)
        try:
            yield
        finally:
            with self._lock:
                self._wakers.discard(wake)


class Fetch(Protocol):
    def __call__(self, start_byte: int, end_byte: int, stop: Stop) -> Iterator[bytes]:
        """Yield exactly the bytes `start_byte` to `end_byte` (exclusive), in pieces, in a lane's thread."""
        ...


class Prefetch:
    """One read of the bytes `start_byte` to `end_byte` (exclusive)."""

    def __init__(self, fetch: Fetch, start_byte: int, end_byte: int, ahead: ReadAhead) -> None:
        self._stop = Stop()
        self._parts = -(-(end_byte - start_byte) // ahead.part_bytes)
        count = min(ahead.lanes, self._parts)
        self._lanes = [
            _Lane(
                fetch,
                range(start_byte + lane * ahead.part_bytes, end_byte, count * ahead.part_bytes),
                ahead.part_bytes,
                end_byte,
                self._stop,
            )
            for lane in range(count)
        ]

    def pieces(self) -> Generator[bytes, None, None]:
        """Yield the bytes in order. Raises what a fetch raised, after all bytes before it; ValueError once stopped."""
        try:
            for part in range(self._parts):
                lane = self._lanes[part % len(self._lanes)]
                lane.start()
                for piece in lane.take_part():
                    yield piece
                    # Only now: who looks at the header and leaves must not have asked for four parts.
                    for other in self._lanes:
                        other.start()
        except Stopped:
            raise ValueError("the source was closed while it was read") from None
        finally:
            self.stop()

    def stop(self) -> None:
        """End all threads. One that waits for an answer to begin ends by itself when that wait times out."""
        self._stop.set()
        deadline_s = time.monotonic() + _JOIN_S
        for lane in self._lanes:
            lane.wake()
        for lane in self._lanes:
            lane.join(max(0.0, deadline_s - time.monotonic()))


class _Lane:
    def __init__(self, fetch: Fetch, starts: range, part_bytes: int, end_byte: int, stop: Stop) -> None:
        self._fetch = fetch
        self._starts = starts
        self._part_bytes = part_bytes
        self._end_byte = end_byte
        self._stop = stop
        self._taken = threading.Semaphore(1)
        # A piece, None where a part ends, or what ended the lane.
        self._pieces: SimpleQueue[bytes | BaseException | None] = SimpleQueue()
        # A daemon: a thread that waits for a dead network must not hold the process back.
        self._thread = threading.Thread(target=self._run, name="csv2kafka-prefetch", daemon=True)

    def start(self) -> None:
        """Begin, unless begun."""
        if self._thread.ident is None:
            self._thread.start()

    def take_part(self) -> Iterator[bytes]:
        while True:
            piece = self._pieces.get()
            if self._stop.is_set():
                raise Stopped
            if piece is None:
                self._taken.release()
                return
            if isinstance(piece, BaseException):
                raise piece
            yield piece

    def wake(self) -> None:
        """Both sides, so that they see that the stop is set."""
        self._taken.release()
        self._pieces.put(None)

    def join(self, timeout_s: float) -> None:
        if self._thread.is_alive():
            self._thread.join(timeout_s)

    def _run(self) -> None:
        try:
            for start_byte in self._starts:
                self._taken.acquire()
                if self._stop.is_set():
                    return
                for piece in self._fetch(start_byte, min(start_byte + self._part_bytes, self._end_byte), self._stop):
                    self._pieces.put(piece)
                self._pieces.put(None)
        except BaseException as error:  # noqa: BLE001 - it is raised in the reader's thread
            self._pieces.put(error)
