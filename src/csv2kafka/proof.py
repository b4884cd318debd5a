"""Prove against the file what of a job lies in the log behind its checkpoint, and find the row to go on with.

Blocking, as it reads the file again. Headers have been counted already; here the last batch of each lane is compared,
record by record. Nothing is asked of Kafka.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass

import numpy as np

from csv2kafka import recordbatch
from csv2kafka.encoder import Encoder
from csv2kafka.errors import JobConflict
from csv2kafka.kafka.topic import Target
from csv2kafka.model import Dialect, Position
from csv2kafka.recordbatch import BatchHeader
from csv2kafka.sources import Source
from csv2kafka.splitter import skip_rows, split, take_rows


@dataclass(frozen=True, slots=True)
class LaneTail:
    """What a lane's log holds behind the position: how many rows, and the last batch of them (compressed)."""

    rows: int
    last_batch: BatchHeader | None
    last_records: bytes


@dataclass(frozen=True, slots=True)
class Proven:
    """Where to go on, and how many rows of each lane lie in the log already although they come behind that."""

    position: Position
    ahead_rows: tuple[int, ...]


def prove(
    source: Source, encoder: Encoder, targets: Sequence[Target], start: Position, tails: Sequence[LaneTail]
) -> Proven:
    """Compare each lane's last batch with the file's rows from `start` on. Raises JobConflict where they differ."""
    if len(tails) == 1 and encoder.apart is None:
        return Proven(_prove_one(source, encoder, targets[0], start, tails[0]), (0,))
    wanted = {
        lane: recordbatch.bodies(recordbatch.decompress(tail.last_batch.codec, memoryview(tail.last_records)))
        for lane, tail in enumerate(tails)
        if tail.last_batch is not None
    }
    got = _rows_of_lanes(source, encoder, start, tails, wanted)
    for lane, bodies in wanted.items():
        if got[lane] != bodies:
            raise _differs(
                source, targets[lane], tails[lane].last_batch, f"the rows behind row {start.row} that go there"
            )
    return Proven(start, tuple(tail.rows for tail in tails))


def _rows_of_lanes(
    source: Source,
    encoder: Encoder,
    start: Position,
    tails: Sequence[LaneTail],
    wanted: dict[int, list[bytes]],
) -> dict[int, list[bytes]]:
    """For each wanted lane the records that its last batch must hold, encoded anew from the file."""
    skip = np.array([tail.rows - len(wanted.get(lane, ())) for lane, tail in enumerate(tails)], dtype=np.int64)
    got: dict[int, list[bytes]] = {lane: [] for lane in wanted}
    with closing(source.read_from(start.byte_offset)) as chunks:
        blocks = split(chunks, start, encoder.dialect, lambda: encoder.block_bytes)
        while any(len(got[lane]) < len(bodies) for lane, bodies in wanted.items()):
            block = next(blocks, None)
            if block is None:
                break
            for portion in encoder.encode(block, skip).portions:
                for batch in portion.batches:
                    if batch.lane in wanted:
                        missing = len(wanted[batch.lane]) - len(got[batch.lane])
                        records = recordbatch.decompress(batch.codec, memoryview(batch.records))
                        got[batch.lane] += recordbatch.bodies(records)[:missing]
    return got


def _prove_one(source: Source, encoder: Encoder, target: Target, start: Position, tail: LaneTail) -> Position:
    """The position behind the job's last row in the only lane."""
    last = tail.last_batch
    if last is None:
        return start
    at = row_after(source, encoder.dialect, start, tail.rows - last.rows)
    with closing(source.read_from(at.byte_offset)) as chunks:
        block = take_rows(chunks, at, last.rows, encoder.dialect)
    if block.rows != last.rows or encoder.frame(block)[0] != recordbatch.decompress(
        last.codec, memoryview(tail.last_records)
    ):
        raise _differs(source, target, last, f"rows {at.row + 1} to {start.row + tail.rows}")
    return block.end


def row_after(source: Source, dialect: Dialect, start: Position, rows: int) -> Position:
    """The position so many rows behind `start`. Raises JobConflict where the file has fewer."""
    if rows == 0:
        return start
    with closing(source.read_from(start.byte_offset)) as chunks:
        position = skip_rows(chunks, start, rows, dialect)
    if position.row != start.row + rows:
        behind = f" behind row {start.row}" if start.row else ""
        raise JobConflict(
            f"{source.identity.uri} has {position.row - start.row} rows{behind}, but {rows} were sent",
            hint="The topic or the checkpoint belongs to another file. Use another --job-id, or csv2kafka reset JOB.",
        )
    return position


def checksum_of(source: Source, start_byte: int, end_byte: int, before: int = 0) -> int:
    """CRC32C of the text from `start_byte` to `end_byte`, going on with `before`."""
    with closing(source.read_range(start_byte, end_byte)) as chunks:
        for chunk in chunks:
            before = recordbatch.checksum(chunk, before)
    return before


def _differs(source: Source, target: Target, batch: BatchHeader | None, rows: str) -> JobConflict:
    where = f"offsets {batch.base_offset} to {batch.next_offset - 1}" if batch else "the end"
    return JobConflict(
        f"the records at {where} of {target.partition} are not {rows} of {source.identity.uri}",
        hint="The topic holds other rows than the file: it was loaded from another file or with other options. "
        "Nothing was sent. Use another --job-id and topic, or csv2kafka reset JOB.",
    )
