"""One huge file -> parts of whole rows, cut at proven row boundaries by a first pass that runs over ranges in parallel.

Where a row ends hangs on every quote before it, so no range can tell alone: it tells what it would come to from each
state that it may be entered in, and composing that from the file's beginning on leaves the one that is true.
No I/O beyond pulling chunks, and nothing about where the ranges run.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from csv2kafka.model import Dialect, Part, Position
from csv2kafka.rangekernel import NO_ROW, ROW_START, STATES, run_tracks
from csv2kafka.simd import WIDTH

_PAD = bytes(WIDTH)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a range comes to when it is entered in one state of the automaton."""

    exit_state: int
    rows: int  # that ended in the range
    first_row_byte: int | None  # behind the first of them


@dataclass(frozen=True, slots=True)
class Transition:
    """All that a range has to tell: its outcome for each entry state."""

    start_byte: int
    end_byte: int
    outcomes: tuple[Outcome, ...]

    def row_start(self, entry_state: int) -> int | None:
        """The first byte of the range at which a row may start; None where all of it belongs to an earlier row."""
        return self.start_byte if entry_state == ROW_START else self.outcomes[entry_state].first_row_byte


def cuts(start_byte: int, end_byte: int, count: int) -> tuple[int, ...]:
    """Where `count` even ranges begin, at least one and never one without a byte beside others."""
    size_bytes = end_byte - start_byte
    count = max(1, min(count, size_bytes))
    return tuple(start_byte + size_bytes * number // count for number in range(count))


def scan_range(chunks: Iterable[bytes], start_byte: int, dialect: Dialect) -> Transition:
    """Run over the bytes of a range, which begins at `start_byte` of the file."""
    states = np.arange(STATES, dtype=np.int64)
    rows = np.zeros(STATES, np.int64)
    firsts = np.full(STATES, NO_ROW, np.int64)
    marks = ord(dialect.delimiter), ord(dialect.quote), dialect.escape_byte
    at = start_byte
    for chunk in filter(None, chunks):
        # Vector steps read beyond what they look at: a chunk's last bytes need padding, the others have those.
        padded_from = max(0, len(chunk) - WIDTH)
        run_tracks(np.frombuffer(chunk, np.uint8), padded_from, at, *marks, states, rows, firsts)
        tail = np.frombuffer(chunk[padded_from:] + _PAD, np.uint8)
        run_tracks(tail, tail.size - WIDTH, at + padded_from, *marks, states, rows, firsts)
        at += len(chunk)
    outcomes = (
        Outcome(state, ended, None if first == NO_ROW else first)
        for state, ended, first in zip(states.tolist(), rows.tolist(), firsts.tolist(), strict=True)
    )
    return Transition(start_byte, at, tuple(outcomes))


def compose(transitions: Sequence[Transition], start_byte: int) -> tuple[tuple[Part, int], ...]:
    """The parts of the rows from `start_byte` (the header's end) on, each with its number of rows; none without rows.

    A range begins a part where a row starts in it. The parts follow each other without a gap, and the last ends where
    the last range does. What follows the last line end counts as a row, also with a quote that is never closed.
    Raises ValueError for ranges that do not follow each other from `start_byte` on.
    """
    state, rows, end_byte = ROW_START, 0, start_byte
    bounds = [Position(0, start_byte)]
    for transition in transitions:
        if transition.start_byte != end_byte:
            raise ValueError(f"a range begins at byte {transition.start_byte}, the one before it ends at {end_byte}")
        row = rows + (state != ROW_START)  # that have begun before the range
        place = transition.row_start(state)
        if place is not None and row > bounds[-1].row:
            bounds.append(Position(row, place))
        outcome = transition.outcomes[state]
        state, rows, end_byte = outcome.exit_state, rows + outcome.rows, transition.end_byte
    end = Position(rows + (state != ROW_START), end_byte)
    if bounds[-1].row == end.row:  # nothing follows but blank lines
        bounds.pop()
    return tuple(
        (Part(start.row, start.byte_offset, stop.byte_offset), stop.row - start.row)
        for start, stop in pairwise([*bounds, end])
    )
