"""What a partition must hold against what it holds, record by record as both come in; where they part, how.

Pure: who reads the file and the topic feeds the two sides.
"""

from __future__ import annotations

import enum
from bisect import bisect_right
from dataclasses import dataclass, field

import numpy as np

from csv2kafka import recordbatch
from csv2kafka.comparekernel import same_records
from csv2kafka.simd import Bytes

MOST_DIFFERENCES = 20  # of a partition, before it is given up
LOOK_AHEAD = 64  # records: how far a difference may reach and still be told for what it is
_SHOWN_BYTES = 200
_REMEMBERED_BYTES = 64 << 10


class How(enum.StrEnum):
    """A way in which the topic differs from the file."""

    MISSING = "missing"
    DOUBLED = "doubled"
    EXTRA = "extra"
    SWAPPED = "swapped"
    CHANGED = "changed"


@dataclass(frozen=True, slots=True)
class Difference:
    """`record` is the number (from 1) among those that the partition must hold; `offset` where it was looked for."""

    how: How
    partition: str
    record: int
    records: int | None  # how many of them, one after the other; None: all from here on
    offset: int | None  # None: behind the last one
    expected: str | None
    found: str | None

    def __str__(self) -> str:
        place = "behind the last record" if self.offset is None else f"at offset {self.offset}"
        sides = [f"the file has {self.expected}"] if self.expected is not None else []
        sides += [f"the topic has {self.found}"] if self.found is not None else []
        many = {None: "all from ", 1: ""}.get(self.records, f"{self.records} from ")
        return f"{self.partition}, {place}: {self.how}, {many}record {self.record}: {'; '.join(sides)}"


@dataclass(slots=True)
class Side:
    """Framed records that came in and were not compared yet. `ended`: no more come."""

    ended: bool = False
    _data: Bytes = field(default_factory=lambda: np.empty(0, np.uint8))
    _at: int = 0
    _before: list[Bytes] = field(default_factory=list)  # what was passed last
    _starts: list[int] = field(default_factory=list)  # of the batches in `_data`
    _base_offsets: list[int] = field(default_factory=list)

    @property
    def left_bytes(self) -> int:
        return self._data.size - self._at

    def add(self, records: bytes, base_offset: int = 0) -> None:
        """A batch's records, uncompressed."""
        kept = [number for number, start in enumerate(self._starts) if start >= self._at]
        first = max(0, (kept[0] if kept else len(self._starts)) - 1) if self.left_bytes else len(self._starts)
        self._starts = [start - self._at for start in self._starts[first:]] + [self.left_bytes]
        self._base_offsets = [*self._base_offsets[first:], base_offset]
        new = np.frombuffer(records, np.uint8)
        self._before.append(self._data[: self._at])
        while sum(part.size for part in self._before[1:]) > _REMEMBERED_BYTES:
            del self._before[0]
        self._data = np.concatenate((self._data[self._at :], new)) if self.left_bytes else new
        self._at = 0

    def has(self, records: int) -> bool:
        """Whether so many have come in, or all that ever will."""
        return self.ended or len(self.peek(records)) >= records

    def peek(self, records: int) -> list[bytes]:
        """The bodies of the next ones, at most so many."""
        return [body for body, _, _ in self._walk(records)]

    def passed(self) -> set[bytes]:
        """The bodies of those passed last."""
        parts = (*self._before, self._data[: self._at])
        return {body for part in parts for body in recordbatch.bodies(part.tobytes())}

    def skip(self, records: int) -> None:
        for _, _, end in self._walk(records):
            self._at = end

    def offset(self) -> int | None:
        """Of the next record; None where there is none."""
        for _, delta, _ in self._walk(1):
            return self._base_offsets[bisect_right(self._starts, self._at) - 1] + delta
        return None

    def _walk(self, records: int) -> list[tuple[bytes, int, int]]:
        """(body, offset delta, end) of the next ones."""
        data, at = self._data, self._at
        walked: list[tuple[bytes, int, int]] = []
        while at < data.size and len(walked) < records:
            body, delta, at = recordbatch.record_at(data.data, at)
            walked.append((body, delta, at))
        return walked

    def pass_same(self, other: Side) -> int:
        """Pass over what is the same on both sides; return how many records."""
        self._at, other._at, same = same_records(
            self._data, self._at, self._data.size, other._data, other._at, other._data.size
        )
        return same


@dataclass(slots=True)
class Comparison:
    """One partition's. Feed the sides that want it, and let it `go_on`, until it is done."""

    partition: str
    expected: Side = field(default_factory=Side)
    found: Side = field(default_factory=Side)
    records: int = 0  # of the expected ones, compared
    differences: list[Difference] = field(default_factory=list)
    is_done: bool = False
    _differs: bool = False

    @property
    def wants_expected(self) -> bool:
        return not self.is_done and not self.expected.has(LOOK_AHEAD if self._differs else 1)

    @property
    def wants_found(self) -> bool:
        return not self.is_done and not self.found.has(LOOK_AHEAD if self._differs else 1)

    def go_on(self) -> None:
        """Compare what is there, until a side wants more, everything is compared, or enough is different."""
        while not (self.is_done or self.wants_expected or self.wants_found):
            if self._differs:
                self._differs = False
                self._tell()
                self.is_done = len(self.differences) == MOST_DIFFERENCES
                continue
            self.records += self.expected.pass_same(self.found)
            if self.expected.left_bytes and self.found.left_bytes:
                self._differs = True
            elif self._is_over(self.expected, self.found) or self._is_over(self.found, self.expected):
                self._tell_of_the_rest()
                self.is_done = True

    @staticmethod
    def _is_over(one: Side, other: Side) -> bool:
        """Whether one side is at its end, and it is known whether the other is, too."""
        return one.ended and not one.left_bytes and (other.ended or other.left_bytes > 0)

    def _tell_of_the_rest(self) -> None:
        """One side is at its end."""
        if self.expected.left_bytes:
            self._add(How.MISSING, None, self.expected.peek(1), [])
        elif self.found.left_bytes:
            self._add(self._kind_of_extra(), None, [], self.found.peek(1))

    def _tell(self) -> None:
        """Name the difference at which both sides stand, and pass over it."""
        expected, found = self.expected.peek(LOOK_AHEAD), self.found.peek(LOOK_AHEAD)
        how, missing, extra = _difference(expected, found)
        if how == How.EXTRA:
            how = self._kind_of_extra()
        self._add(how, max(missing, extra), expected[:missing], found[:extra])
        self.expected.skip(missing)
        self.found.skip(extra)
        self.records += missing

    def _kind_of_extra(self) -> How:
        return How.DOUBLED if self.found.peek(1)[0] in self.expected.passed() else How.EXTRA

    def _add(self, how: How, records: int | None, expected: list[bytes], found: list[bytes]) -> None:
        said = _shown(expected), _shown(found)
        self.differences.append(Difference(how, self.partition, self.records + 1, records, self.found.offset(), *said))


def _difference(expected: list[bytes], found: list[bytes]) -> tuple[How, int, int]:
    """(how the two part, records of the one side to pass over, of the other), the shortest way to explain it."""
    if len(found) > 1 and expected[:2] == found[1::-1] and expected[2:3] == found[2:3]:
        return How.SWAPPED, 2, 2
    if expected[1:2] == found[1:2]:
        return How.CHANGED, 1, 1
    missing = expected.index(found[0]) if found[0] in expected else LOOK_AHEAD
    extra = found.index(expected[0]) if expected[0] in found else LOOK_AHEAD
    if missing == extra == LOOK_AHEAD:
        return How.CHANGED, 1, 1
    return (How.MISSING, missing, 0) if missing <= extra else (How.EXTRA, 0, extra)


def _shown(bodies: list[bytes]) -> str | None:
    """The first one's value, cut short."""
    if not bodies:
        return None
    value = recordbatch.value_of(bodies[0])
    return "null" if value is None else value[:_SHOWN_BYTES].decode("utf-8", "replace")
