"""Block -> batches: frame the rows, compress them, keep each batch below what the topic takes. Pure, thread-safe.

`encode` may run in several threads at once: the kernel and the compressors release the GIL, each thread has an
output buffer of its own. What a batch is sent under (producer, sequence, time) is the sender's business.
"""

from __future__ import annotations

import json
import threading
from dataclasses import dataclass

import numpy as np

from csv2kafka import csvkernel, recordbatch, slowcsv
from csv2kafka.errors import BadRow
from csv2kafka.model import Batch, Block, Portion, Position, RecordShape
from csv2kafka.simd import Bytes, Offsets

_ALL_ROWS = 1 << 62
_MAX_BLOCK_BYTES = 4 << 20
_MIN_BLOCK_BYTES = 64 << 10
_FIRST_BUFFER_BYTES = 4 << 20
_MAX_UNCOMPRESSED_BYTES = 16 << 20  # a batch is closed here even if it would compress well: consumers must hold it
_FILL = 0.92  # how near to the topic's limit a batch is aimed
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
        columns = shape.columns
        self._codec = codec
        self._max_batch_bytes = max_batch_bytes
        self._columns = len(columns)
        prefixes = [
            ('{"' if not number else '","').encode() + json.dumps(name, ensure_ascii=False)[1:].encode() + b':"'
            for number, name in enumerate(columns)
        ]
        self._prefixes = np.frombuffer(b"".join(prefixes) + bytes(csvkernel.PADDING), np.uint8)
        self._prefix_at = np.cumsum([0, *map(len, prefixes)], dtype=np.int64)
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
            out, end, rows, status = self._frame(src, at, block.size_bytes, max_rows)
            if rows:
                records = recordbatch.compress(self._codec, out.data)
                size_bytes = recordbatch.HEADER_BYTES + len(records)
                if size_bytes > self._max_batch_bytes:
                    if rows == 1:
                        return Encoded(tuple(portions), self._too_large(src, at, block, start.row, size_bytes))
                    max_rows = max(1, min(rows // 2, int(rows * _FILL * self._max_batch_bytes / size_bytes)))
                    continue
                if size_bytes < self._max_batch_bytes // 2:  # one large row must not make the others' batches small
                    max_rows = min(2 * max_rows, _ALL_ROWS)
                self._learn(len(records) / (end - at))
                position = Position(start.row + rows, block.start.byte_offset + end)
                batch = Batch(0, rows, self._codec, records, len(out))
                portions.append(Portion(start, position, (batch,)))
                start = position
            at = end
            if status not in (csvkernel.OK, csvkernel.FULL):
                return Encoded(tuple(portions), self._unreadable(src, at, block, start.row, status))
            if not rows and status == csvkernel.OK:
                break  # nothing but blank lines was left
        if start.row != block.end.row:
            raise AssertionError(f"the splitter counted rows to {block.end.row}, the encoder to {start.row}")
        return Encoded(tuple(portions))

    def frame(self, block: Block, skip: Offsets | None = None, take: Offsets | None = None) -> tuple[bytes, ...]:
        """The block's rows as uncompressed records, a batch for each lane, to compare with what lies in the log.

        Of each lane the first `skip` records are left out, and those behind the `take` next ones.
        """
        out, end, rows, status = self._frame(np.frombuffer(block.data, np.uint8), 0, block.size_bytes, _ALL_ROWS)
        if status != csvkernel.OK or rows != block.rows:
            raise AssertionError(
                f"rows {block.start.row} to {block.end.row} were sent but do not encode: {status}, {end}"
            )
        return (out.tobytes(),)

    def _frame(self, src: Bytes, at: int, stop: int, max_rows: int) -> tuple[Bytes, int, int, int]:
        """Run the kernel into this thread's buffer, grown as needed; return (records, end, rows, status).

        A row too long for the largest buffer gets one of its own, not kept: what fits into a batch must not hang on
        the rows encoded before, or a batch could be found in the log that `frame` cannot repeat.
        """
        buffer = self._buffer()
        while True:
            end, written, rows, status = csvkernel.encode_rows(
                src,
                at,
                stop,
                ord(self.dialect.delimiter),
                ord(self.dialect.quote),
                self._prefixes,
                self._prefix_at,
                buffer,
                max_rows,
            )
            if status == csvkernel.FULL and (rows == 0 or buffer.size < _MAX_UNCOMPRESSED_BYTES):
                buffer = np.empty(2 * buffer.size, np.uint8)
                if buffer.size <= _MAX_UNCOMPRESSED_BYTES:
                    self._local.buffer = buffer
                continue
            return buffer[:written], end, rows, status

    def _buffer(self) -> Bytes:
        buffer: Bytes | None = getattr(self._local, "buffer", None)
        if buffer is None:
            buffer = self._local.buffer = np.empty(_FIRST_BUFFER_BYTES, np.uint8)
        return buffer

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

    def _unreadable(self, src: Bytes, at: int, block: Block, row: int, status: int) -> BadRow:
        start, end = self._extent(src, at, block)
        hint = _MEND
        if status == csvkernel.UNCLOSED_QUOTE:
            reason = "has a quote that is never closed"
        elif status == csvkernel.BAD_UTF8:
            reason = f"is not valid {self.shape.text.encoding.upper()}"
            hint += _TELL
        else:
            reason = self._ragged(block.data[start:end])
        at_byte = block.start.byte_offset
        return BadRow(Position(row, at_byte + start), at_byte + end, reason, hint=hint)

    def _extent(self, src: Bytes, at: int, block: Block) -> tuple[int, int]:
        """First byte and end of the next row's text, line ends apart: blank lines lead, a block may cut CR from LF."""
        stop = block.size_bytes
        start = stop - len(block.data[at:stop].lstrip(b"\r\n"))
        delimiter, quote = ord(self.dialect.delimiter), ord(self.dialect.quote)
        rows, end, _, _ = csvkernel.scan_rows(src, start, stop, start, False, True, delimiter, quote, 1)
        return start, end - 1 if rows else stop

    def _ragged(self, row: bytes) -> str:
        fields = len(slowcsv.fields(row.decode("utf-8", "replace"), self.dialect))
        return f"has {fields} field{'s' if fields > 1 else ''} where the header has {self._columns}"
