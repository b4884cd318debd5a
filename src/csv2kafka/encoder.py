"""Block -> batches: frame the rows, compress them, keep each batch below what the topic takes. Pure, thread-safe.

`encode` may run in several threads at once: the kernel and the compressors release the GIL, each thread has an
output buffer of its own. What a batch is sent under (producer, sequence, time) is the sender's business.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass

import numpy as np

from csv2kafka import csvkernel, recordbatch, slowcsv
from csv2kafka.desk import Desk, Framed, Wanted
from csv2kafka.errors import BadRow
from csv2kafka.model import Batch, Block, Kind, Portion, Position, RecordShape
from csv2kafka.plan import fields_of, is_plain, prefixes_of
from csv2kafka.simd import Bytes, Offsets

_ALL_ROWS = 1 << 62
_MAX_BLOCK_BYTES = 4 << 20
_MIN_BLOCK_BYTES = 64 << 10
_FIRST_BUFFER_BYTES = 4 << 20
_MAX_UNCOMPRESSED_BYTES = 16 << 20  # a batch is closed here even if it would compress well: consumers must hold it
_FILL = 0.92  # how near to the topic's limit a batch is aimed
_SHOWN_CHARACTERS = 60
_MEND = "Mend this row in the file and load it as a new job (a mended file is another object)."
_TELL = " If the whole file is in another encoding, tell which: --encoding latin-1, cp1252 or utf-16."


@dataclass(frozen=True, slots=True)
class Encoded:
    """A block's portions in order; with `bad`, they end before the first row that cannot become a record."""

    portions: tuple[Portion, ...]
    bad: BadRow | None = None


class Encoder:
    """Encodes blocks of one file for one topic. `max_batch_bytes` is the topic's max.message.bytes."""

    def __init__(self, shape: RecordShape, codec: int, max_batch_bytes: int, lanes: int = 1) -> None:
        self.shape = shape
        self.dialect = shape.dialect
        self.lanes = lanes
        self._codec = codec
        self._max_batch_bytes = max_batch_bytes
        self._needs_plan = lanes > 1 or not is_plain(shape)
        self._prefixes = {planned: prefixes_of(shape, planned=planned) for planned in (False, True)}
        self._local = threading.local()
        self._packed_ratio = 1.0  # compressed record bytes for each byte of CSV, the recent worst case

    @property
    def block_bytes(self) -> int:
        """How many bytes of CSV are likely to fill one batch."""
        wanted = int(_FILL * self._max_batch_bytes / self._packed_ratio)
        return max(_MIN_BLOCK_BYTES, min(_MAX_BLOCK_BYTES, wanted))

    def encode(self, block: Block, skip: Offsets | None = None) -> Encoded:
        """Raises nothing for bad data: that comes as `Encoded.bad`, behind the portions before it.

        `skip`: how many records of each lane are in the log already; they are left out, and the numbers go down.
        """
        src = np.frombuffer(block.data, np.uint8)
        portions: list[Portion] = []
        start = block.start
        at = 0
        max_rows = _ALL_ROWS
        while at < block.size_bytes:
            framed = self._frame(src, at, block, start.row, max_rows, Wanted.of(self.lanes, skip))
            if framed.rows:
                batches = self._compress(framed)
                size_bytes = max((recordbatch.HEADER_BYTES + len(batch.records) for batch in batches), default=0)
                if size_bytes > self._max_batch_bytes:
                    if framed.rows == 1:
                        return Encoded(tuple(portions), self._too_large(src, at, block, start.row, size_bytes))
                    fitting = int(framed.rows * _FILL * self._max_batch_bytes / size_bytes)
                    max_rows = max(1, min(framed.rows // 2, fitting))
                    continue
                if size_bytes < self._max_batch_bytes // 2:  # one large row must not make the others' batches small
                    max_rows = min(2 * max_rows, _ALL_ROWS)
                if skip is None:
                    self._learn((size_bytes - recordbatch.HEADER_BYTES) / (framed.end - at))
                else:
                    skip[:] = framed.wanted.skip
                position = Position(start.row + framed.rows, block.start.byte_offset + framed.end)
                ahead_rows = () if skip is None else tuple(map(int, skip))
                portions.append(Portion(start, position, batches, ahead_rows))
                start = position
            at = framed.end
            if framed.status not in (csvkernel.OK, csvkernel.FULL):
                return Encoded(tuple(portions), self._unreadable(src, at, block, start.row, framed))
            if not framed.rows and framed.status == csvkernel.OK:
                break  # nothing but blank lines was left
        if start.row != block.end.row:
            raise AssertionError(f"the splitter counted rows to {block.end.row}, the encoder to {start.row}")
        return Encoded(tuple(portions))

    def frame(self, block: Block, skip: Offsets | None = None, take: Offsets | None = None) -> tuple[bytes, ...]:
        """The block's rows as uncompressed records, a batch for each lane, to compare with what lies in the log.

        Of each lane the first `skip` records are left out, and those behind the `take` next ones.
        """
        src = np.frombuffer(block.data, np.uint8)
        lanes = [b""] * self.lanes
        wanted = Wanted.of(self.lanes, skip, take)
        at, row = 0, block.start.row
        while True:
            framed = self._frame(src, at, block, row, _ALL_ROWS, wanted)
            for lane, _, records in framed.lanes:
                lanes[lane] += records.tobytes()
            at, row, wanted = framed.end, row + framed.rows, framed.wanted
            if framed.status != csvkernel.FULL:
                break
        if framed.status != csvkernel.OK or row != block.end.row:
            raise AssertionError(
                f"rows {block.start.row} to {block.end.row} were sent but do not encode: {framed.status}, {at}"
            )
        return tuple(lanes)

    def _compress(self, framed: Framed) -> tuple[Batch, ...]:
        return tuple(
            Batch(lane, rows, self._codec, recordbatch.compress(self._codec, records.data), len(records))
            for lane, rows, records in framed.lanes
        )

    def _frame(self, src: Bytes, at: int, block: Block, row: int, max_rows: int, wanted: Wanted) -> Framed:
        """Run the kernel from byte `at` of the block, which is in or before row `row`, into this thread's buffer.

        A row too long for the largest buffer gets one of its own, not kept: what fits into a batch must not hang on
        the rows encoded before, or a batch could be found in the log that `frame` cannot repeat.
        """
        desk = self._desk()
        while True:
            plan = None
            if self._needs_plan or wanted.is_choosy:
                plan = desk.plan_for(wanted, row, block.start.byte_offset)
            prefixes, prefix_at = self._prefixes[plan is not None]
            end, written, rows, status = csvkernel.encode_rows(
                src,
                at,
                block.size_bytes,
                ord(self.dialect.delimiter),
                ord(self.dialect.quote),
                prefixes,
                prefix_at,
                desk.buffer,
                max_rows,
                plan,
            )
            if status == csvkernel.FULL and (rows == 0 or desk.buffer.size < _MAX_UNCOMPRESSED_BYTES):
                desk = Desk(self.shape, self.lanes, 2 * desk.buffer.size)
                if desk.buffer.size <= _MAX_UNCOMPRESSED_BYTES:
                    self._local.desk = desk
                continue
            return desk.framed(end, written, rows, status, wanted, plan)

    def _desk(self) -> Desk:
        desk: Desk | None = getattr(self._local, "desk", None)
        if desk is None:
            desk = self._local.desk = Desk(self.shape, self.lanes, _FIRST_BUFFER_BYTES)
        return desk

    def _learn(self, ratio: float) -> None:
        # Falls slowly and rises at once: a batch beyond the limit costs twice, one below it costs little.
        self._packed_ratio = max(ratio, 0.9 * self._packed_ratio + 0.1 * ratio)

    def _too_large(self, src: Bytes, at: int, block: Block, row: int, size_bytes: int) -> BadRow:
        start, end = self._extent(src, at, block)
        return BadRow(
            Position(row, block.start.byte_offset + start),
            block.start.byte_offset + end,
            f"makes a record batch of {size_bytes} bytes, more than the topic's max.message.bytes "
            f"({self._max_batch_bytes})",
            hint=f"Raise max.message.bytes of the topic to {size_bytes} or more "
            "(kafka-configs.sh --alter --entity-type topics) and run the same command again.",
        )

    def _unreadable(self, src: Bytes, at: int, block: Block, row: int, framed: Framed) -> BadRow:
        start, end = self._extent(src, at, block)
        hint = _MEND
        if framed.status == csvkernel.UNCLOSED_QUOTE:
            reason = "has a quote that is never closed"
        elif framed.status == csvkernel.BAD_UTF8:
            reason = f"is not valid {self.shape.text.encoding.upper()}"
            hint += _TELL
        elif framed.status in (csvkernel.BAD_VALUE, csvkernel.BAD_NULL):
            reason, hint = self._unfitting(block.data[start:end], framed)
        else:
            reason = self._ragged(block.data[start:end])
        at_byte = block.start.byte_offset
        return BadRow(Position(row, at_byte + start), at_byte + end, reason, hint=hint)

    def _unfitting(self, row: bytes, framed: Framed) -> tuple[str, str]:
        """(reason, hint) of a value that is not what the schema says of its column."""
        column = self.shape.columns[framed.bad_column]
        kind = fields_of(self.shape)[framed.bad_column].kind
        if framed.status == csvkernel.BAD_NULL:
            return f"has no value in column {column!r}, which is not nullable", (
                'Allow it in the schema ("nullable": true), or mend the row and load it as a new job.'
            )
        text = slowcsv.fields(row.decode("utf-8", "replace"), self.dialect)[framed.bad_column]
        shown = text if len(text) <= _SHOWN_CHARACTERS else text[:_SHOWN_CHARACTERS] + "..."
        return f"has no {kind} in column {column!r}", (
            f"{_why_not(kind, text)}It is {shown!r}. Give the column another type in the schema (every text is a "
            "string), or mend the row and load it as a new job."
        )

    def _extent(self, src: Bytes, at: int, block: Block) -> tuple[int, int]:
        """First byte and end of the next row's text, line ends apart: blank lines lead, a block may cut CR from LF."""
        stop = block.size_bytes
        start = stop - len(block.data[at:stop].lstrip(b"\r\n"))
        delimiter, quote = ord(self.dialect.delimiter), ord(self.dialect.quote)
        rows, end, _, _ = csvkernel.scan_rows(
            src, start, stop, start, False, True, delimiter, quote, self.dialect.escape_byte, 1
        )
        return start, end - 1 if rows else stop

    def _ragged(self, row: bytes) -> str:
        fields = len(slowcsv.fields(row.decode("utf-8", "replace"), self.dialect))
        return f"has {fields} field{'s' if fields > 1 else ''} where the header has {len(self.shape.columns)}"


def _why_not(kind: Kind, text: str) -> str:
    """What is behind the refusals that surprise people, as a sentence with a blank behind it."""
    if kind not in (Kind.INT, Kind.FLOAT, Kind.DECIMAL):
        return ""
    digits = text.lstrip("+-")
    if len(digits) > 1 and digits[0] == "0" and digits[1].isdigit():
        return "A JSON number has no leading zeros, and dropping them would change a code or a postal code. "
    if digits.lower() in ("nan", "inf", "infinity"):
        return "JSON has no such number. "
    if kind == Kind.FLOAT and digits[:1].isdigit() and "e" in digits.lower():
        return "A number beyond 1.8e308 is none that a double can hold. "
    return ""
