"""Drives chunks -> splitter -> encoder -> records as the pipeline does, and tells where that differs from the oracle.

`difference` is the one comparison that unit tests, the checked and the interpreted kernels and the campaign share.
No test framework here, so that a bare child process can use it.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from csv2kafka import recordbatch
from csv2kafka.csvkernel import PADDING
from csv2kafka.encoder import Encoder
from csv2kafka.errors import BadHeader, BadRow
from csv2kafka.model import Block, Dialect, Header, Portion, Position, RecordShape
from csv2kafka.splitter import read_header, skip_rows, split
from tests.support import csv_oracle
from tests.support.csv_oracle import Expected, Stop

TOO_LARGE = "too large"
_LINE_ENDS = b"\r\n"


@dataclass(frozen=True, slots=True)
class Setup:
    """Everything about a case that must not change its records. Chunk and block sizes are used in turn, over again."""

    dialect: Dialect = field(default_factory=Dialect)
    chunk_bytes: tuple[int, ...] = (1 << 20,)
    block_bytes: tuple[int, ...] = (1 << 20,)
    codec: str = "none"
    max_batch_bytes: int = 1 << 30


@dataclass(slots=True)
class Got:
    """What came out: values in order, the portions that held them, and the row that ended it."""

    values: list[bytes] = field(default_factory=list)
    portions: list[Portion] = field(default_factory=list)
    stop: Stop | None = None


class Different(Exception):
    """The chain and the oracle disagree; the message says where and shows both."""


def chunks(data: bytes, sizes: tuple[int, ...]) -> Iterator[bytes]:
    at = 0
    for size in itertools.cycle(sizes):
        if at >= len(data):
            return
        yield data[at : at + size]
        at += size


def padded(data: bytes) -> bytes:
    """The bytes with exactly as much behind them as the kernel may read; junk, for it must not matter."""
    return data + (b'a"\n,\xff\r\0' * PADDING)[:PADDING]


def run(data: bytes, start: Position, columns: tuple[str, ...], setup: Setup) -> Got:
    """Encode the file `data` from `start` on. Raises Different for records or batches that are wrong in themselves."""
    encoder = Encoder(RecordShape(columns, setup.dialect), recordbatch.CODECS[setup.codec], setup.max_batch_bytes)
    got = Got()
    sizes = itertools.cycle(setup.block_bytes)
    row = start.row
    try:
        for block in split(
            chunks(data[start.byte_offset :], setup.chunk_bytes), start, setup.dialect, lambda: next(sizes)
        ):
            _check(
                block.data[: block.size_bytes] == data[block.start.byte_offset : block.end.byte_offset], "cut", block
            )
            _check(block.start.row == row, "block's first row", block.start.row, row)
            encoded = encoder.encode(block)
            for portion in encoded.portions:
                (batch,) = portion.batches
                records = recordbatch.decompress(batch.codec, memoryview(batch.records))
                values = csv_oracle.parse_records(records)
                _check(len(values) == batch.rows, "batch's rows", len(values), batch.rows)
                _check(len(records) == batch.uncompressed_bytes, "uncompressed size", batch.uncompressed_bytes)
                size_bytes = recordbatch.HEADER_BYTES + len(batch.records)
                _check(size_bytes <= setup.max_batch_bytes, "batch too large", size_bytes)
                _check(batch.rows == portion.rows, "portion's rows", portion.rows, batch.rows)
                _check(portion.start.row == row, "portion's first row", portion.start.row, row)
                row = portion.end.row
                got.values += values
                got.portions.append(portion)
            if encoded.bad is not None:
                raise encoded.bad
            _check(row == block.end.row, "rows of a block", row, block.end.row)
    except BadRow as bad:
        got.stop = _stop(bad)
    return got


def _stop(bad: BadRow) -> Stop:
    why, fields = bad.reason, 0
    if bad.reason == "is not valid UTF-8":
        why = csv_oracle.NOT_UTF8
    elif bad.reason == "has a quote that is never closed":
        why = csv_oracle.UNCLOSED
    elif bad.reason.startswith("makes a record batch of"):
        why = TOO_LARGE
    elif found := re.fullmatch(r"has (\d+) fields? where the header has \d+", bad.reason):
        why, fields = csv_oracle.RAGGED, int(found[1])
    return Stop(bad.start.row + 1, bad.start.byte_offset, bad.end_byte, why, fields)


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
    """Hold the whole chain against the oracle; return the number of records. Raises Different."""
    expected, header, got = compare_rows(data, setup)
    if header is not None:
        _check_portions(data, got.portions, expected, header, setup)
        _check_restart(data, got, expected, header, setup)
        _check_skipping(data, header, expected, setup)
    return len(got.values)


def compare_rows(data: bytes, setup: Setup) -> tuple[Expected, Header | None, Got]:
    """The quick part of `compare`: header, records and the bad row, not positions. Raises Different."""
    expected = csv_oracle.expect(data, setup.dialect.delimiter, setup.dialect.quote)
    header = _header(data, setup)
    _check((header and header.columns) == expected.columns, "columns", header, expected.columns)
    if header is None:
        return expected, None, Got()
    behind = data[header.end_byte : expected.header_end_byte]
    _check(behind in (b"", b"\n"), "header's end", header.end_byte, expected.header_end_byte)
    got = run(data, Position(0, header.end_byte), header.columns, setup)
    _check_rows(got, 0, expected, setup)
    return expected, header, got


def _header(data: bytes, setup: Setup) -> Header | None:
    try:
        return read_header(chunks(data, setup.chunk_bytes), setup.dialect)
    except BadHeader:
        return None


def _check_rows(got: Got, first_row: int, expected: Expected, setup: Setup) -> None:
    """The values from row `first_row` on are the oracle's, up to its bad row or one that is rightly too large."""
    wanted = list(expected.values[first_row:])
    stop = expected.stop
    if got.stop is not None and got.stop.why == TOO_LARGE:
        count = len(got.values)
        _check(count < len(wanted), "a row too large that does not exist", got.stop)
        alone = csv_oracle.frame_record(wanted[count], 0)
        packed = recordbatch.compress(recordbatch.CODECS[setup.codec], memoryview(alone))
        _check(len(packed) + recordbatch.HEADER_BYTES > setup.max_batch_bytes, "too large, but fits", got.stop)
        row = first_row + count
        stop = Stop(row + 1, *expected.extents[row], TOO_LARGE)
        del wanted[count:]
    for number, (value, want) in enumerate(zip(got.values, wanted, strict=False), first_row + 1):
        _check(value == want, f"value of row {number}", value, want)
    _check(len(got.values) == len(wanted), "number of values", len(got.values), len(wanted))
    _check(got.stop == stop, "bad row", got.stop, stop)


def _check_portions(data: bytes, portions: list[Portion], expected: Expected, header: Header, setup: Setup) -> None:
    """Portions chain (only blank lines may lie between two), lie on row ends, and can be framed again byte for byte."""
    end = Position(0, header.end_byte)
    again = Encoder(RecordShape(header.columns, setup.dialect), 0, setup.max_batch_bytes)
    for portion in portions:
        _check(portion.start.row == end.row, "rows chain", portion.start, end)
        _check(
            not data[end.byte_offset : portion.start.byte_offset].strip(_LINE_ENDS), "bytes chain", portion.start, end
        )
        _check_on_row_end(data, portion.start, expected)
        _check_on_row_end(data, portion.end, expected)
        part = padded(data[portion.start.byte_offset : portion.end.byte_offset])
        (batch,) = portion.batches
        (records,) = again.frame(Block(part, len(part) - PADDING, portion.start, portion.rows))
        _check(records == recordbatch.decompress(batch.codec, memoryview(batch.records)), "framed again", portion.start)
        end = portion.end


def _check_on_row_end(data: bytes, place: Position, expected: Expected) -> None:
    """Nothing but line ends lies between the place and the rows before and behind it."""
    last_end = expected.extents[place.row - 1][1] if place.row else expected.header_end_byte
    if place.row or place.byte_offset > last_end:
        _check(last_end <= place.byte_offset, "inside a row", place, last_end)
        _check(not data[last_end : place.byte_offset].strip(_LINE_ENDS), "behind the row's end", place, last_end)
    if place.row < len(expected.extents):
        next_start = expected.extents[place.row][0]
        _check(place.byte_offset <= next_start, "inside the next row", place, next_start)
        _check(not data[place.byte_offset : next_start].strip(_LINE_ENDS), "before the next row", place, next_start)


def _check_restart(data: bytes, got: Got, expected: Expected, header: Header, setup: Setup) -> None:
    """From a batch's start on, cut differently, come the records of the rest and the same bad row."""
    other = Setup(setup.dialect, setup.block_bytes, setup.chunk_bytes, setup.codec, setup.max_batch_bytes)
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
            _check(expected.unclosed and bad.start.row == total, "skipping found a bad row", rows, bad)
            continue
        _check(place.row == min(rows, total), "rows skipped", place.row, min(rows, total))
        _check_on_row_end(data, place, expected)


def _check(same: object, what: str, *shown: object) -> None:
    if not same:
        raise Different(f"{what}: " + " | expected ".join(repr(side)[:2000] for side in shown))
