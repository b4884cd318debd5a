"""One thread's working place: the output buffer and the plan, set before each run of the kernel and read after it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from csv2kafka.errors import BadRow
from csv2kafka.model import QuarantinedRow, RecordShape
from csv2kafka.plan import NO_LIMIT, make_plan
from csv2kafka.recordkernel import FIRST_BYTE, FIRST_ROW, RECORDS, Plan, gather
from csv2kafka.simd import WIDTH, Bytes, Offsets

_LANE_SHIFT = 32  # as in recordkernel


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which of each lane's next records are to be written, and how many are in its batch already."""

    skip: Offsets
    take: Offsets
    lane_rows: Offsets
    is_choosy: bool  # whether any of them matters

    @classmethod
    def of(cls, lanes: int, skip: Offsets | None = None, take: Offsets | None = None) -> Wanted:
        zeros = np.zeros(lanes, np.int64)
        return cls(
            zeros if skip is None else skip,
            np.full(lanes, NO_LIMIT, np.int64) if take is None else take,
            zeros,
            is_choosy=skip is not None or take is not None,
        )


@dataclass(frozen=True, slots=True)
class Framed:
    """What one run of the kernel made of the block's bytes up to `end`."""

    end: int
    rows: int  # those included that are not wanted, and those set apart
    status: int
    lanes: tuple[tuple[int, int, Bytes], ...]  # lane, its records, their bytes (until the next run)
    wanted: Wanted  # of the rows behind `end`
    bad_rows: tuple[QuarantinedRow, ...]
    bad: BadRow | None  # the row at `end`, if that is what ended the run


class Desk:
    """An output buffer of `buffer_bytes` and what goes with it."""

    def __init__(self, shape: RecordShape, lanes: int, buffer_bytes: int) -> None:
        self.buffer: Bytes = np.empty(buffer_bytes, np.uint8)
        self._shape = shape
        self._lanes = lanes
        self._plan: Plan | None = None
        self._gathered: Bytes = np.empty(0, np.uint8)

    def plan_for(self, wanted: Wanted, row: int, byte_offset: int) -> Plan:
        """The plan, set for rows from `row` on (0-based) of a block that begins at `byte_offset`."""
        plan = self._plan
        if plan is None:
            plan = self._plan = make_plan(self._shape, self._lanes, self.buffer.size)
        plan.skip[:] = wanted.skip
        plan.take[:] = wanted.take
        plan.lane_rows[:] = wanted.lane_rows
        plan.notes[:] = 0
        plan.notes[FIRST_ROW] = row
        plan.notes[FIRST_BYTE] = byte_offset
        return plan

    def framed(
        self,
        end: int,
        written: int,
        records: int,
        status: int,
        wanted: Wanted,
        plan: Plan | None,
        bad_rows: tuple[QuarantinedRow, ...],
        bad: BadRow | None,
    ) -> Framed:
        """What the kernel returned and noted, and which rows were set apart or ended its run."""
        rows = records + len(bad_rows)
        lanes: tuple[tuple[int, int, Bytes], ...]
        if plan is None:
            lanes = ((0, records, self.buffer[:written]),) if records else ()
            return Framed(end, rows, status, lanes, wanted, bad_rows, bad)
        left = Wanted(plan.skip.copy(), plan.take.copy(), plan.lane_rows.copy(), wanted.is_choosy)
        counts = left.lane_rows - wanted.lane_rows
        if self._lanes > 1:
            lanes = self._gather(counts, plan)
        else:
            lanes = ((0, int(counts[0]), self.buffer[:written]),) if written else ()
        return Framed(end, rows, status, lanes, left, bad_rows, bad)

    def _gather(self, counts: Offsets, plan: Plan) -> tuple[tuple[int, int, Bytes], ...]:
        """Each lane's records side by side; in the buffer they lie in the file's order."""
        count = int(plan.notes[RECORDS])
        placed = plan.placed[:count]
        lengths = placed & (1 << _LANE_SHIFT) - 1
        sizes = np.bincount(placed >> _LANE_SHIFT, weights=lengths, minlength=self._lanes).astype(np.int64)
        starts = np.cumsum(sizes + WIDTH) - (sizes + WIDTH)
        wanted_bytes = int(sizes.sum()) + WIDTH * self._lanes
        if self._gathered.size < wanted_bytes:
            self._gathered = np.empty(max(wanted_bytes, self.buffer.size), np.uint8)
        gather(self.buffer, plan.placed, count, starts.copy(), self._gathered)
        return tuple(
            (lane, int(counts[lane]), self._gathered[starts[lane] : starts[lane] + sizes[lane]])
            for lane in np.flatnonzero(counts).tolist()
        )
