"""Bytes -> blocks of whole rows, whatever the chunks that the bytes arrive in.

Knows where rows end and how many there are, not what is in them (the header apart). No I/O beyond pulling chunks.
"""

from __future__ import annotations

import codecs
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from csv2kafka import slowcsv
from csv2kafka.csvkernel import PADDING, scan_rows
from csv2kafka.errors import BadHeader, BadRow
from csv2kafka.model import Block, Dialect, Header, Position

MAX_ROW_BYTES = 32 << 20  # a row beyond this is taken for a quote that was never closed
_ALL_ROWS = 1 << 62
_PAD = bytes(PADDING)


@dataclass(slots=True)
class _Scan:
    """Where a scan of one growing row stands; offsets are relative to the start of `data`."""

    rows: int = 0
    row_start: int = 0
    at: int = 0
    in_quotes: bool = False

    def advance(self, data: bytes, stop: int, dialect: Dialect, *, final: bool, max_rows: int = _ALL_ROWS) -> None:
        rows, self.row_start, self.at, self.in_quotes = scan_rows(
            np.frombuffer(data, np.uint8),
            self.at,
            stop,
            self.row_start,
            self.in_quotes,
            final,
            ord(dialect.delimiter),
            ord(dialect.quote),
            max_rows,
        )
        self.rows += rows

    def rebase(self) -> None:
        """Forget everything before the unfinished row."""
        self.at -= self.row_start
        self.row_start = 0
        self.rows = 0


def _gather(chunks: Iterator[bytes], tail: bytes, want_bytes: int) -> tuple[bytes, bool, bytes]:
    """Join `tail` and chunks to about `want_bytes`; return (bytes with padding, at the end of input, left over)."""
    pieces = [tail]
    have_bytes = len(tail)
    for chunk in chunks:
        missing = want_bytes - have_bytes
        if len(chunk) > missing:
            view = memoryview(chunk)
            return b"".join([*pieces, view[:missing], _PAD]), False, bytes(view[missing:])
        pieces.append(chunk)
        have_bytes += len(chunk)
    return b"".join([*pieces, _PAD]), True, b""


class _Pushback:
    """An iterator of chunks that takes back what was not used."""

    def __init__(self, chunks: Iterable[bytes]) -> None:
        self._chunks = iter(chunks)
        self._kept = b""

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        if self._kept:
            kept, self._kept = self._kept, b""
            return kept
        return next(self._chunks)

    def keep(self, rest: bytes) -> None:
        self._kept = rest


def split(
    chunks: Iterable[bytes],
    start: Position,
    dialect: Dialect,
    block_bytes: Callable[[], int],
    *,
    max_row_bytes: int = MAX_ROW_BYTES,
) -> Iterator[Block]:
    """Cut the bytes from `start` on into blocks of whole rows of about `block_bytes()` each (asked for every block).

    Raises BadRow, after the blocks before it, for a quote never closed and for a row beyond `max_row_bytes`.
    """
    source = _Pushback(chunks)
    scan = _Scan()
    tail = b""
    final = False
    while not final:
        # A row longer than a block doubles what is gathered, so that long rows stay linear.
        data, final, rest = _gather(source, tail, max(block_bytes(), 2 * len(tail)))
        source.keep(rest)
        stop = len(data) - PADDING
        scan.advance(data, stop, dialect, final=final)
        if final and not scan.in_quotes and scan.row_start < stop:
            scan.rows += 1
            scan.row_start = stop
        if scan.row_start > 0:
            block = Block(data, scan.row_start, start, scan.rows)
            yield block
            start = block.end
        tail = data[scan.row_start : stop]
        scan.rebase()
        if len(tail) > max_row_bytes:
            raise _endless_row(tail, start, dialect, f"is longer than {max_row_bytes} bytes")
    if tail:
        raise _endless_row(tail, start, dialect, "has a quote that is never closed")


def _endless_row(tail: bytes, start: Position, dialect: Dialect, reason: str) -> BadRow:
    return BadRow(
        start,
        start.byte_offset + len(tail),
        reason,
        hint=f"Look for a stray {dialect.quote} near byte {start.byte_offset}, mend the file, "
        "and load it as a new job (a mended file is another object).",
    )


def skip_rows(chunks: Iterable[bytes], start: Position, rows: int, dialect: Dialect) -> Position:
    """The position `rows` rows behind `start`, or the end of the input where it has fewer (compare `.row`)."""
    goal = start.row + rows
    for block in split(chunks, start, dialect, lambda: 4 << 20):
        if block.end.row >= goal:
            scan = _Scan()
            if goal > block.start.row:
                scan.advance(block.data, block.size_bytes, dialect, final=True, max_rows=goal - block.start.row)
                if scan.rows < goal - block.start.row:  # the file's last row has no line end
                    scan.row_start = block.size_bytes
            return Position(goal, block.start.byte_offset + scan.row_start)
        start = block.end
    return start


def read_header(chunks: Iterable[bytes], dialect: Dialect, *, max_row_bytes: int = MAX_ROW_BYTES) -> Header:
    """The columns as `csv.DictReader` takes them from the first record, a byte-order mark apart.

    Raises BadHeader for an empty file, an empty or repeated name, bytes that are not UTF-8, an endless record.
    """
    source = _Pushback(chunks)
    scan = _Scan()
    tail = b""
    final = False
    while not final and scan.rows == 0:
        data, final, rest = _gather(source, tail, max(1 << 16, 2 * len(tail)))
        source.keep(rest)
        stop = len(data) - PADDING
        bom_bytes = len(codecs.BOM_UTF8) if data.startswith(codecs.BOM_UTF8) else 0
        scan = _Scan(row_start=bom_bytes, at=bom_bytes)
        scan.advance(data, stop, dialect, final=final, max_rows=1)
        tail = data[:stop]
        if scan.rows == 0 and stop > max_row_bytes:
            raise BadHeader(
                f"no header: the first {stop} bytes hold no line end outside quotes",
                hint="The first record must name the columns; is this a CSV file, and is its first quote closed?",
            )
    end_byte = scan.row_start if scan.rows else len(tail)
    if scan.in_quotes:
        raise BadHeader(
            "the header has a quote that is never closed", hint="Mend the file's first record and run again."
        )
    return Header(_columns(tail[bom_bytes:end_byte], dialect), end_byte)


def _columns(record: bytes, dialect: Dialect) -> tuple[str, ...]:
    try:
        text = record.decode("utf-8")
    except UnicodeDecodeError as error:
        raise BadHeader(
            f"the header is not UTF-8 at byte {error.start}",
            hint="Convert the file to UTF-8 first (iconv -t UTF-8).",
        ) from None
    columns = slowcsv.fields(text, dialect)
    if not columns:
        raise BadHeader(
            "the file has no header: its first line is empty" if record else "the file is empty: it has no header",
            hint="The first record must name the columns.",
        )
    seen: dict[str, int] = {}
    for number, name in enumerate(columns, 1):
        if not name:
            raise BadHeader(
                f"column {number} of {len(columns)} has no name in the header",
                hint="Every column needs a name, as it becomes a key of the JSON record: mend the header.",
            )
        if name in seen:
            raise BadHeader(
                f"columns {seen[name]} and {number} of the header have the same name {name!r}",
                hint="A JSON record can hold a key only once: rename one of them in the header.",
            )
        seen[name] = number
    return columns
