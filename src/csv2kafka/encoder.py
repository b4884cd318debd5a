"""Block -> batches: frame the rows, compress them, keep each batch below what the topic takes. Pure, thread-safe.

`encode` may run in several threads at once: the kernel and the compressors release the GIL, each thread has an
output buffer of its own. What a batch is sent under (producer, sequence, time) is the sender's business.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass

import numpy as np

from csv2kafka import csvkernel, recordbatch
from csv2kafka.badrow import OF_ONE_ROW, Judge, set_apart
from csv2kafka.desk import Desk, Framed, Wanted
from csv2kafka.errors import BadRow
from csv2kafka.model import Batch, Block, Portion, Position, QuarantinedRow, RecordShape
from csv2kafka.plan import is_plain, prefixes_of
from csv2kafka.quarantine import SetApart
from csv2kafka.recordkernel import BAD_COLUMN, FIRST_ROW
from csv2kafka.simd import Bytes, Offsets

_ALL_ROWS = 1 << 62
_MAX_BLOCK_BYTES = 4 << 20
_MIN_BLOCK_BYTES = 64 << 10
_FIRST_BUFFER_BYTES = 4 << 20
_MAX_UNCOMPRESSED_BYTES = 16 << 20  # a batch is closed here even if it would compress well: consumers must hold it
_FILL = 0.92  # how near to the topic's limit a batch is aimed


@dataclass(frozen=True, slots=True)
class Encoded:
    """A block's portions in order; with `bad`, they end before the first row that cannot become a record."""

    portions: tuple[Portion, ...]
    bad: BadRow | None = None


class Encoder:
    """Encodes blocks of one file for one topic. `max_batch_bytes` is the topic's max.message.bytes.

    With `apart`, bad rows do not end what can be encoded: they go into the portion that they are in, and into a batch
    of the lane behind the `lanes` of the others where they are for a topic.
    """

    def __init__(
        self, shape: RecordShape, codec: int, max_batch_bytes: int, lanes: int = 1, apart: SetApart | None = None
    ) -> None:
        self.shape = shape
        self.dialect = shape.dialect
        self.lanes = lanes
        self.apart = apart
        self._judge = Judge(shape)
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
        ours = None if skip is None else skip[: self.lanes]
        src = np.frombuffer(block.data, np.uint8)
        portions: list[Portion] = []
        start = block.start
        at = 0
        max_rows = _ALL_ROWS
        while at < block.size_bytes:
            framed = self._frame(src, at, block, start.row, max_rows, Wanted.of(self.lanes, ours))
            batches: tuple[Batch, ...] = ()
            if framed.rows:
                batches = self._compress(framed)
                size_bytes = max((batch.size_bytes for batch in batches), default=0)
                if size_bytes > self._max_batch_bytes:
                    if framed.rows == 1:
                        limit_bytes = self._max_batch_bytes
                        too_large = self._judge.too_large(src, at, block, start.row, size_bytes, limit_bytes)
                        return Encoded(tuple(portions), too_large)
                    fitting = int(framed.rows * _FILL * self._max_batch_bytes / size_bytes)
                    max_rows = max(1, min(framed.rows // 2, fitting))
                    continue
                if size_bytes < self._max_batch_bytes // 2:  # one large row must not make the others' batches small
                    max_rows = min(2 * max_rows, _ALL_ROWS)
                if ours is not None:
                    ours[:] = framed.wanted.skip
                elif batches:
                    self._learn((size_bytes - recordbatch.HEADER_BYTES) / (framed.end - at))
                batches += self._batch_apart(framed.bad_rows, skip)
            if framed.rows or framed.status == csvkernel.OK:  # without rows: nothing but blank lines was left
                position = Position(start.row + framed.rows, block.start.byte_offset + framed.end)
                ahead_rows = () if skip is None else tuple(map(int, skip))
                text = memoryview(block.data)[at : framed.end]
                portions.append(Portion(start, position, batches, text, ahead_rows, framed.bad_rows))
                start = position
            at = framed.end
            if framed.bad is not None:
                return Encoded(tuple(portions), framed.bad)
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

    def _batch_apart(self, rows: tuple[QuarantinedRow, ...], skip: Offsets | None) -> tuple[Batch, ...]:
        """What of the bad rows goes to the dead-letter topic and is not there yet."""
        if self.apart is None or self.apart.max_batch_bytes is None:
            return ()
        if skip is not None:
            known = min(int(skip[self.lanes]), len(rows))
            skip[self.lanes] -= known
            rows = rows[known:]
        return (self.apart.batch_of(rows, self.lanes, self._codec),) if rows else ()

    def _frame(self, src: Bytes, at: int, block: Block, row: int, max_rows: int, wanted: Wanted) -> Framed:
        """Run the kernel from byte `at` of the block, which is in or before row `row`, into this thread's buffer.

        A row too long for the largest buffer gets one of its own, not kept: what fits into a batch must not hang on
        the rows encoded before, or a batch could be found in the log that `frame` cannot repeat.
        """
        desk = self._desk()
        while True:
            framed = self._fill(desk, src, at, block, row, max_rows, wanted)
            if framed.status == csvkernel.FULL and (framed.rows == 0 or desk.buffer.size < _MAX_UNCOMPRESSED_BYTES):
                desk = Desk(self.shape, self.lanes, 2 * desk.buffer.size)
                if desk.buffer.size <= _MAX_UNCOMPRESSED_BYTES:
                    self._local.desk = desk
                continue
            return framed

    def _fill(self, desk: Desk, src: Bytes, at: int, block: Block, row: int, max_rows: int, wanted: Wanted) -> Framed:
        plan = None
        if self._needs_plan or wanted.is_choosy:
            plan = desk.plan_for(wanted, row, block.start.byte_offset)
        prefixes, prefix_at = self._prefixes[plan is not None]
        written = records = 0
        bad_rows: list[QuarantinedRow] = []
        room_bytes = 0 if self.apart is None else self.apart.room_bytes
        while True:
            at, written, records, status = csvkernel.encode_rows(
                src,
                at,
                block.size_bytes,
                ord(self.dialect.delimiter),
                ord(self.dialect.quote),
                prefixes,
                prefix_at,
                desk.buffer,
                written,
                records,
                max_rows - len(bad_rows),
                plan,
            )
            bad = None
            if status in (csvkernel.OK, csvkernel.FULL):
                break
            column = 0 if plan is None else int(plan.notes[BAD_COLUMN])
            bad = self._judge.unreadable(src, at, block, row + records + len(bad_rows), status, column)
            if self.apart is None or status not in OF_ONE_ROW:
                break
            bad_row = set_apart(bad, block)
            room_bytes -= self.apart.size_bytes(bad_row)
            if room_bytes < 0 and bad_rows:
                bad = None  # not here: it begins the next portion
                break
            if room_bytes < 0 and (refusal := self.apart.refusal(bad, bad_row, self._codec)):
                bad = refusal
                break
            bad_rows.append(bad_row)
            at = bad.end_byte - block.start.byte_offset
            if plan is not None:
                plan.notes[FIRST_ROW] += 1
        return desk.framed(at, written, records, status, wanted, plan, tuple(bad_rows), bad)

    def _desk(self) -> Desk:
        desk: Desk | None = getattr(self._local, "desk", None)
        if desk is None:
            desk = self._local.desk = Desk(self.shape, self.lanes, _FIRST_BUFFER_BYTES)
        return desk

    def _learn(self, ratio: float) -> None:
        # Falls slowly and rises at once: a batch beyond the limit costs twice, one below it costs little.
        self._packed_ratio = max(ratio, 0.9 * self._packed_ratio + 0.1 * ratio)
