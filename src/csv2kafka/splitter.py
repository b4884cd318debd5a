"""Bytes -> blocks of whole rows, whatever the chunks that the bytes arrive in.

Knows where rows end and how many there are, not what is in them (the header apart). No I/O beyond pulling chunks.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from csv2kafka import slowcsv
from csv2kafka.csvkernel import PADDING, scan_rows
from csv2kafka.errors import BadHeader, BadRow
from csv2kafka.model import Block, Dialect, Header, Naming, Position

MAX_ROW_BYTES = 32 << 20  # a row beyond this is taken for a quote that was never closed
_ALL_ROWS = 1 << 62
_PAD = bytes(PADDING)
_LINE_END = re.compile(rb"\r\n|\r|\n")
_HEADER_LINE = Naming()
_Chunk = bytes | memoryview


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
            dialect.escape_byte,
            max_rows,
        )
        self.rows += rows

    def rebase(self) -> None:
        """Forget everything before the unfinished row."""
        self.at -= self.row_start
        self.row_start = 0
        self.rows = 0


def _gather(chunks: Iterator[_Chunk], tail: bytes, want_bytes: int) -> tuple[bytes, bool, _Chunk]:
    """Join `tail` and chunks to `want_bytes`; return (bytes with padding, at the end of input, left over)."""
    pieces: list[_Chunk] = [tail]
    have_bytes = len(tail)
    for chunk in chunks:
        missing = want_bytes - have_bytes
        if len(chunk) > missing:
            view = memoryview(chunk)
            return b"".join([*pieces, view[:missing], _PAD]), False, view[missing:]
        pieces.append(chunk)
        have_bytes += len(chunk)
    return b"".join([*pieces, _PAD]), True, b""


class _Pushback:
    """An iterator of chunks that takes back what was not used."""

    def __init__(self, chunks: Iterable[bytes]) -> None:
        self._chunks = iter(chunks)
        self._kept: _Chunk = b""

    def __iter__(self) -> Iterator[_Chunk]:
        return self

    def __next__(self) -> _Chunk:
        if self._kept:
            kept, self._kept = self._kept, b""
            return kept
        return next(self._chunks)

    def keep(self, rest: _Chunk) -> None:
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
        # A row longer than a block doubles what is gathered, so that long rows stay linear. Never beyond the longest
        # row, or it would hang on the cuts whether a longer one is refused.
        longest_bytes = max_row_bytes + 1
        want_bytes = max(min(block_bytes(), longest_bytes), min(2 * len(tail), longest_bytes))
        data, final, rest = _gather(source, tail, want_bytes)
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


def take_rows(chunks: Iterable[bytes], start: Position, rows: int, dialect: Dialect) -> Block:
    """Exactly the next `rows` rows (fewer only where the input ends) as one block."""
    data, scan = _gather_rows(_Pushback(chunks), rows, dialect, want_bytes=4 << 20, mark=b"")
    return Block(data, scan.row_start, start, scan.rows)


def read_header(
    chunks: Iterable[bytes],
    dialect: Dialect,
    naming: Naming = _HEADER_LINE,
    *,
    encoding: str = "utf-8",
    max_row_bytes: int = MAX_ROW_BYTES,
) -> Header:
    """The columns as `csv.DictReader` takes them from the first record, a byte-order mark apart, or as `naming` says.

    Raises BadHeader for an empty file, an empty or repeated name, bytes that are not UTF-8 (`encoding` is what they
    were before), an endless record.
    """
    source = _Pushback(chunks)
    skipped_bytes = _skip_lines(source, naming.skip_lines, max_row_bytes)
    mark = b"" if naming.skip_lines else codecs.BOM_UTF8
    data, scan = _gather_rows(source, 1, dialect, want_bytes=1 << 16, mark=mark, max_bytes=max_row_bytes)
    first = len(mark) if data.startswith(mark) else 0
    if naming.columns is not None and not naming.has_header:
        return Header(_refuse_unusable(naming.columns, "--columns"), skipped_bytes + first)
    if scan.in_quotes or (not scan.rows and len(data) - PADDING > max_row_bytes):
        raise BadHeader(
            f"the header does not end within {len(data) - PADDING} bytes: is a quote never closed?",
            hint="The first record must name the columns: mend it, and see that this is a CSV file.",
        )
    try:
        record = data[first : scan.row_start].decode("utf-8")
    except UnicodeDecodeError as error:
        raise BadHeader(
            f"the header is not {encoding.upper()} at byte {skipped_bytes + first + error.start}",
            hint="Tell the file's encoding: --encoding latin-1, cp1252 or utf-16. Others must be converted first "
            "(iconv -t UTF-8).",
        ) from None
    if not naming.has_header:
        count = len(slowcsv.fields(record.lstrip("\r\n"), dialect))
        if not count:
            raise BadHeader(
                "the file is empty: nothing tells how many columns it has", hint="Name them: --columns a,b."
            )
        return Header(tuple(f"c{number}" for number in range(1, count + 1)), skipped_bytes + first)
    return Header(_columns(record, dialect, naming.columns), skipped_bytes + scan.row_start)


def _skip_lines(source: _Pushback, lines: int, max_line_bytes: int) -> int:
    """Take so many physical lines (LF, CR or CRLF ends one) from the source; return their bytes."""
    skipped_bytes = line_bytes = 0
    after_cr = False
    while lines or after_cr:
        chunk = next(source, None)
        if chunk is None:
            break
        data = bytes(chunk)
        if not data:
            continue
        at = 1 if after_cr and data[0] == ord("\n") else 0
        after_cr = False
        while lines and (end := _LINE_END.search(data, at)):
            at = end.end()
            lines -= 1
            line_bytes = 0
            after_cr = end[0] == b"\r" and at == len(data)  # its LF may follow
        if lines:
            line_bytes += len(data) - at
            at = len(data)
        if line_bytes > max_line_bytes:
            raise BadHeader(
                f"a line to be skipped is longer than {max_line_bytes} bytes",
                hint="Is this a text file, and uncompressed?",
            )
        skipped_bytes += at
        source.keep(memoryview(data)[at:])
    return skipped_bytes


def _gather_rows(
    source: _Pushback, rows: int, dialect: Dialect, *, want_bytes: int, mark: bytes, max_bytes: int = 1 << 62
) -> tuple[bytes, _Scan]:
    """Gather until `rows` rows are whole, the input ends, or `max_bytes` are exceeded; `mark` is skipped in front."""
    tail = b""
    while True:
        data, final, rest = _gather(source, tail, max(want_bytes, 2 * len(tail)))
        source.keep(rest)
        stop = len(data) - PADDING
        first = len(mark) if data.startswith(mark) else 0
        scan = _Scan(row_start=first, at=first)
        scan.advance(data, stop, dialect, final=final, max_rows=rows)
        if final and scan.rows < rows and not scan.in_quotes and scan.row_start < stop:
            scan.rows += 1  # the last row has no line end
            scan.row_start = stop
        if final or scan.rows == rows or stop > max_bytes:
            return data, scan
        tail = data[:stop]


def _columns(record: str, dialect: Dialect, instead: tuple[str, ...] | None) -> tuple[str, ...]:
    columns = slowcsv.fields(record, dialect)
    if not columns:
        raise BadHeader(
            "the file has no header: its first line is empty" if record else "the file is empty: it has no header",
            hint="The first record must name the columns.",
        )
    if instead is None:
        return _refuse_unusable(columns, "the header")
    if len(instead) != len(columns):
        raise BadHeader(
            f"--columns names {len(instead)} columns, the header has {len(columns)}",
            hint="--columns takes the place of the header's names; where the file has no header, add --no-header.",
        )
    return _refuse_unusable(instead, "--columns")


def _refuse_unusable(columns: tuple[str, ...], where: str) -> tuple[str, ...]:
    seen: dict[str, int] = {}
    for number, name in enumerate(columns, 1):
        if not name:
            raise BadHeader(
                f"column {number} of {len(columns)} has no name in {where}",
                hint="Every column needs a name, as it becomes a key of the JSON record: mend the header, or name all "
                "columns yourself with --columns a,b,c.",
            )
        if name in seen:
            raise BadHeader(
                f"columns {seen[name]} and {number} of {where} have the same name {name!r}",
                hint="A JSON record can hold a key only once: rename one of them in the header, or name all columns "
                "yourself with --columns a,b,c.",
            )
        seen[name] = number
    return columns
