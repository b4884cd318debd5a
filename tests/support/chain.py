"""Drives chunks -> splitter -> encoder -> records as the pipeline does, and tells where that differs from the oracle.

`difference` is the one comparison that unit tests, the checked and the interpreted kernels and the campaign share.
No test framework here, so that a bare child process can use it.
"""

from __future__ import annotations

import itertools
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from csv2kafka import recordbatch
from csv2kafka.csvkernel import PADDING
from csv2kafka.errors import BadHeader, BadRow
from csv2kafka.model import (
    Block,
    Header,
    Portion,
    Position,
)
from csv2kafka.ranges import compose, cuts, scan_range
from csv2kafka.splitter import read_header, skip_rows, split
from tests.support import csv_oracle
from tests.support.apart import check_apart
from tests.support.csv_oracle import Expected, Stop
from tests.support.record_oracle import Record
from tests.support.setup import TOO_LARGE, Different, Setup, by_lane, check, chunks, fault_of, padded

_LINE_ENDS = b"\r\n"


@dataclass(slots=True)
class Got:
    """What came out: portions in order with the records of each lane, and the row that ended it."""

    portions: list[Portion] = field(default_factory=list)
    lanes: list[dict[int, list[Record]]] = field(default_factory=list)
    stop: Stop | None = None

    @property
    def values(self) -> list[bytes]:
        """In order, where there is one lane."""
        return [record.value for lanes in self.lanes for record in lanes.get(0, ())]

    @property
    def rows(self) -> int:
        return sum(portion.rows for portion in self.portions)


def run(data: bytes, start: Position, columns: tuple[str, ...], setup: Setup) -> Got:
    """Encode the file `data` from `start` on. Raises Different for records or batches that are wrong in themselves."""
    encoder = setup.encoder(columns)
    got = Got()
    sizes = itertools.cycle(setup.block_bytes)
    row = start.row
    try:
        for block in split(
            chunks(data[start.byte_offset :], setup.chunk_bytes), start, setup.dialect, lambda: next(sizes)
        ):
            check(block.data[: block.size_bytes] == data[block.start.byte_offset : block.end.byte_offset], "cut", block)
            check(block.start.row == row, "block's first row", block.start.row, row)
            encoded = encoder.encode(block)
            for portion in encoded.portions:
                check(portion.start.row == row, "portion's first row", portion.start.row, row)
                text = data[portion.start.byte_offset : portion.end.byte_offset]
                check(bytes(portion.text) == text, "portion's text", portion.text, text)
                row = portion.end.row
                got.portions.append(portion)
                got.lanes.append(_lanes_of(portion, setup))
            if encoded.bad is not None:
                raise encoded.bad
            check(row == block.end.row, "rows of a block", row, block.end.row)
    except BadRow as bad:
        got.stop = _stop(bad, columns)
    return got


def _lanes_of(portion: Portion, setup: Setup) -> dict[int, list[Record]]:
    lanes: dict[int, list[Record]] = {}
    for batch in portion.batches:
        records = recordbatch.decompress(batch.codec, memoryview(batch.records))
        parsed = csv_oracle.parse(records)
        check(len(parsed) == batch.rows > 0, "batch's rows", len(parsed), batch.rows)
        check(len(records) == batch.uncompressed_bytes, "uncompressed size", batch.uncompressed_bytes)
        size_bytes = recordbatch.HEADER_BYTES + len(batch.records)
        check(size_bytes <= setup.max_batch_bytes, "batch too large", size_bytes)
        check(0 <= batch.lane < setup.lanes and batch.lane not in lanes, "lane", batch.lane)
        lanes[batch.lane] = parsed
    check(sum(map(len, lanes.values())) == portion.rows, "portion's rows", lanes, portion.rows)
    return lanes


def _stop(bad: BadRow, columns: tuple[str, ...]) -> Stop:
    return Stop(bad.start.row + 1, bad.start.byte_offset, bad.end_byte, *fault_of(bad.reason, columns))


def difference(data: bytes, setup: Setup) -> str | None:
    """None when the chain makes of the file what the oracle makes of it, else where they part and both sides."""
    try:
        compare(data, setup)
    except Different as different:
        return str(different)
    except Exception as error:  # noqa: BLE001  (a campaign reports whatever breaks)
        return f"{type(error).__name__}: {error}"
    return None


def compare(data: bytes, setup: Setup) -> int:
    """Hold the whole chain against the oracle; return the number of rows. Raises Different."""
    expected, header, got = compare_rows(data, setup)
    if header is not None:
        _check_portions(data, got.portions, expected, header, setup)
        _check_restart(data, got, expected, header, setup)
        _check_skipping(data, header, expected, setup)
        _check_left_out(data, got, expected, header, setup)
        check_apart(data, expected, header, setup)
        _check_parts(data, cuts(header.end_byte, len(data), 2 + len(data) % 6), expected, setup)
        ends = itertools.accumulate(setup.block_bytes, initial=header.end_byte)
        _check_parts(data, sorted({min(end, len(data)) for end in ends}), expected, setup)
    return got.rows


def compare_rows(data: bytes, setup: Setup) -> tuple[Expected, Header | None, Got]:
    """The quick part of `compare`: header, records and the bad row, not positions. Raises Different."""
    expected = setup.expected(data)
    header = _header(data, setup)
    check((header and header.columns) == expected.columns, "columns", header, expected.columns)
    if header is None:
        return expected, None, Got()
    behind = data[header.end_byte : expected.header_end_byte]
    check(behind in (b"", b"\n"), "header's end", header.end_byte, expected.header_end_byte)
    got = run(data, Position(0, header.end_byte), header.columns, setup)
    _check_rows(got, 0, expected, setup)
    return expected, header, got


def _header(data: bytes, setup: Setup) -> Header | None:
    try:
        return read_header(chunks(data, setup.chunk_bytes), setup.dialect, setup.naming)
    except BadHeader:
        return None


def _check_rows(got: Got, first_row: int, expected: Expected, setup: Setup) -> None:
    """The values from row `first_row` on are the oracle's, up to its bad row or one that is rightly too large."""
    wanted = list(expected.records[first_row:])
    stop = expected.stop
    if got.stop is not None and got.stop.why == TOO_LARGE:
        check(got.rows < len(wanted), "a row too large that does not exist", got.stop)
        alone = csv_oracle.frame_record(wanted[got.rows], 0)
        packed = recordbatch.compress(recordbatch.CODECS[setup.codec], memoryview(alone))
        check(len(packed) + recordbatch.HEADER_BYTES > setup.max_batch_bytes, "too large, but fits", got.stop)
        row = first_row + got.rows
        stop = Stop(row + 1, *expected.extents[row], TOO_LARGE)
        del wanted[got.rows :]
    at = 0
    for portion, lanes in zip(got.portions, got.lanes, strict=True):
        want = by_lane(wanted[at : at + portion.rows], setup)
        for lane in want.keys() | lanes.keys():
            check(lanes.get(lane) == want.get(lane), f"records of lane {lane}", lanes.get(lane), want.get(lane))
        at += portion.rows
    check(got.rows == len(wanted), "number of rows", got.rows, len(wanted))
    check(got.stop == stop, "bad row", got.stop, stop)


def _check_portions(data: bytes, portions: list[Portion], expected: Expected, header: Header, setup: Setup) -> None:
    """Portions chain (only blank lines may lie between two), lie on row ends, and can be framed again byte for byte."""
    end = Position(0, header.end_byte)
    again = setup.encoder(header.columns)
    for portion in portions:
        check(portion.start.row == end.row, "rows chain", portion.start, end)
        check(
            not data[end.byte_offset : portion.start.byte_offset].strip(_LINE_ENDS), "bytes chain", portion.start, end
        )
        _check_on_row_end(data, portion.start, expected)
        _check_on_row_end(data, portion.end, expected)
        part = padded(data[portion.start.byte_offset : portion.end.byte_offset])
        records = {lane: framed for lane, framed in enumerate(again.frame(_block(part, portion))) if framed}
        sent = {batch.lane: recordbatch.decompress(batch.codec, memoryview(batch.records)) for batch in portion.batches}
        check(records == sent, "framed again", portion.start)
        end = portion.end


def _block(part: bytes, portion: Portion) -> Block:
    return Block(part, len(part) - PADDING, portion.start, portion.rows)


def _check_left_out(data: bytes, got: Got, expected: Expected, header: Header, setup: Setup) -> None:
    """Records that are in the log already are left out, and of the others only those that are asked for are framed."""
    if not any(got.lanes):
        return
    portion, lanes = got.portions[-1], got.lanes[-1]
    part = padded(data[portion.start.byte_offset : portion.end.byte_offset])
    encoder = setup.encoder(header.columns)
    skip = np.zeros(setup.lanes, np.int64)
    for lane, records in lanes.items():
        skip[lane] = (len(records) + lane % 2) // 2
    framed = encoder.frame(_block(part, portion), skip.copy(), np.ones(setup.lanes, np.int64))
    for lane in range(setup.lanes):
        want = lanes.get(lane, [])[skip[lane] : skip[lane] + 1]
        check(csv_oracle.parse(framed[lane]) == want, f"the first record of lane {lane} that is not left out", want)
    left = skip.copy()
    encoded = encoder.encode(_block(part, portion), left)
    check(not left.any() and encoded.bad is None, "left out", left, encoded.bad)
    rest: dict[int, list[Record]] = {}
    for piece in encoded.portions:
        for batch in piece.batches:
            records = csv_oracle.parse(recordbatch.decompress(batch.codec, memoryview(batch.records)))
            rest.setdefault(batch.lane, []).extend(records)
    want_rest = {lane: records[skip[lane] :] for lane, records in lanes.items() if len(records) > skip[lane]}
    check(rest == want_rest, "records that are not left out", rest, want_rest)


def _check_on_row_end(data: bytes, place: Position, expected: Expected) -> None:
    """Nothing but line ends lies between the place and the rows before and behind it."""
    last_end = expected.extents[place.row - 1][1] if place.row else expected.header_end_byte
    if place.row or place.byte_offset > last_end:
        check(last_end <= place.byte_offset, "inside a row", place, last_end)
        check(not data[last_end : place.byte_offset].strip(_LINE_ENDS), "behind the row's end", place, last_end)
    if place.row < len(expected.extents):
        next_start = expected.extents[place.row][0]
        check(place.byte_offset <= next_start, "inside the next row", place, next_start)
        check(not data[place.byte_offset : next_start].strip(_LINE_ENDS), "before the next row", place, next_start)


def _check_parts(data: bytes, begins: Sequence[int], expected: Expected, setup: Setup) -> None:
    """Ranges that begin there, the first at the header's end, make parts of whole rows: each that a row starts in."""
    ranges = list(itertools.pairwise([*begins, len(data)]))
    transitions = [scan_range(chunks(data[a:b], setup.chunk_bytes), a, setup.dialect) for a, b in ranges]
    parts = compose(transitions, begins[0])
    starts = [start for start, _ in expected.extents]
    starts += [row.start_byte for row in expected.outcomes[-1:] if expected.unclosed and isinstance(row, Stop)]
    rows_before = [(bisect_left(starts, a), bisect_left(starts, b)) for a, b in ranges]
    first_rows = [before for before, behind in rows_before if before < behind]
    check([part.first_row for part, _ in parts] == first_rows, "parts' first rows", parts, first_rows)
    end = Position(0, begins[0])
    for part, rows in parts:
        check(Position(part.first_row, part.start_byte) == end, "parts chain", part, end)
        _check_on_row_end(data, end, expected)
        end = Position(end.row + rows, part.end_byte)
    check(not parts or end == Position(len(starts), len(data)), "the last part's end", end, len(starts))


def _check_restart(data: bytes, got: Got, expected: Expected, header: Header, setup: Setup) -> None:
    """From a batch's start on, cut differently, come the records of the rest and the same bad row."""
    other = replace(setup, chunk_bytes=setup.block_bytes, block_bytes=setup.chunk_bytes)
    count = len(got.portions)
    for number in {count // 2, count - 1} if count else set[int]():
        start = got.portions[number].start
        rest = run(data, start, header.columns, other)
        _check_rows(rest, start.row, expected, setup)


def _check_skipping(data: bytes, header: Header, expected: Expected, setup: Setup) -> None:
    total = len(expected.extents)
    start = Position(0, header.end_byte)
    for rows in {0, total // 2, total, total + 1}:
        try:
            place = skip_rows(chunks(data[header.end_byte :], setup.chunk_bytes), start, rows, setup.dialect)
        except BadRow as bad:
            check(expected.unclosed and bad.start.row == total, "skipping found a bad row", rows, bad)
            continue
        check(place.row == min(rows, total), "rows skipped", place.row, min(rows, total))
        _check_on_row_end(data, place, expected)
