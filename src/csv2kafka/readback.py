"""The file and the topic read once more side by side and compared, record by record, byte for byte.

Nothing that a job said is believed but where it wrote: rows are encoded anew, and its batches in the topic (or all of a
partition) are held against them.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Sequence
from contextlib import aclosing, closing
from dataclasses import dataclass
from typing import TypeVar

from csv2kafka import recordbatch
from csv2kafka.comparison import Comparison, Difference
from csv2kafka.encoder import Encoded, Encoder
from csv2kafka.eta import eta_s
from csv2kafka.kafka import tail
from csv2kafka.kafka.client import Client, Partition
from csv2kafka.metrics import MetricsSink
from csv2kafka.model import Part, Position, Sample, SourceIdentity
from csv2kafka.sources import Source
from csv2kafka.splitter import split
from csv2kafka.threads import close, started_pool

_AHEAD = 3  # blocks, and batches of each partition, that are read while others are compared
_TELL_EVERY_S = 1.0
Item = TypeVar("Item")


@dataclass(frozen=True, slots=True)
class Lane:
    """A partition and which of its offsets count; `own_ids`: the producers of the job, None for everybody."""

    partition: Partition
    first_offset: int
    next_offset: int
    own_ids: tuple[int, ...] | None


@dataclass(frozen=True, slots=True)
class Verification:
    """What was compared, and where it differs."""

    source: SourceIdentity
    rows: int
    records: int  # bad rows set apart included
    bytes: int  # of the text
    crc32c: str  # of the text, in hexadecimal digits
    partitions: tuple[str, ...]
    differences: tuple[Difference, ...]
    duration_s: float
    part: Part | None = None  # of the source, which was compared

    @property
    def is_exact(self) -> bool:
        return not self.differences


class _Text:
    """The source's text (a part: that of the part), counted and summed up, less its header for who reads it."""

    def __init__(self, source: Source, start: Position) -> None:
        self._source = source
        self._header_bytes = start.byte_offset - source.start_byte
        self.bytes = 0
        self.crc = 0

    def rows(self) -> Iterator[bytes]:
        with closing(self._source.read_from(self._source.start_byte)) as chunks:
            for chunk in chunks:
                self.crc = recordbatch.checksum(chunk, self.crc)
                left = self._header_bytes - self.bytes
                self.bytes += len(chunk)
                if left < len(chunk):
                    yield chunk[max(0, left) :]


async def compare(
    source: Source,
    start: Position,
    encoder: Encoder,
    client: Client,
    lanes: Sequence[Lane],
    sinks: Sequence[MetricsSink],
) -> Verification:
    """Compare the file's rows (its part's) from `start` on with what lies in the lanes, one for each of the encoder's.

    Raises BadRow and what reading raises.
    """
    began_s = told_s = time.monotonic()
    comparisons = [Comparison(str(lane.partition)) for lane in lanes]
    text = _Text(source, start)
    rows = 0
    async with (
        aclosing(_ahead(_encoded(text, start, encoder))) as portions,
        _Reading(client, lanes) as reading,
    ):
        while not all(comparison.is_done for comparison in comparisons):
            for comparison in comparisons:
                comparison.go_on()
            if any(comparison.wants_expected for comparison in comparisons):
                encoded = await anext(portions, None)
                rows += _expect(encoded, comparisons)
            await reading.feed(comparisons)
            if time.monotonic() - told_s > _TELL_EVERY_S:
                told_s = time.monotonic()
                _tell(sinks, source, rows, text.bytes, told_s - began_s)
    return Verification(
        source.identity,
        rows,
        sum(comparison.records for comparison in comparisons),
        text.bytes,
        f"{text.crc:08x}",
        tuple(comparison.partition for comparison in comparisons),
        tuple(difference for comparison in comparisons for difference in comparison.differences),
        time.monotonic() - began_s,
        encoder.shape.part,
    )


def _expect(encoded: Encoded | None, comparisons: Sequence[Comparison]) -> int:
    """Hand a block's records to the comparisons; return its rows."""
    if encoded is None:
        for comparison in comparisons:
            comparison.expected.ended = True
        return 0
    for portion in encoded.portions:
        for batch in portion.batches:
            if not comparisons[batch.lane].is_done:
                comparisons[batch.lane].expected.add(batch.records)
    if encoded.bad is not None:
        raise encoded.bad
    return sum(portion.rows for portion in encoded.portions)


class _Reading:
    """The lanes' records as they come in, a little ahead of who compares them."""

    def __init__(self, client: Client, lanes: Sequence[Lane]) -> None:
        self._batches = [_ahead(_records(client, lane)) for lane in lanes]

    async def __aenter__(self) -> _Reading:
        return self

    async def __aexit__(self, *_: object) -> None:
        for batches in self._batches:
            await batches.aclose()

    async def feed(self, comparisons: Sequence[Comparison]) -> None:
        for comparison, batches in zip(comparisons, self._batches, strict=True):
            if comparison.wants_found:
                batch = await anext(batches, None)
                if batch is None:
                    comparison.found.ended = True
                else:
                    comparison.found.add(*batch)


async def _encoded(text: _Text, start: Position, encoder: Encoder) -> AsyncGenerator[Encoded]:
    """The file's blocks, encoded; reading and encoding have a thread each."""
    loop = asyncio.get_running_loop()
    reader, worker = started_pool(1, "csv2kafka-read"), started_pool(1, "csv2kafka-encode")
    rows = text.rows()
    blocks = split(rows, start, encoder.dialect, lambda: encoder.block_bytes)
    try:
        block = await loop.run_in_executor(reader, next, blocks, None)
        while block is not None:
            encoding = loop.run_in_executor(worker, encoder.encode, block)
            following = loop.run_in_executor(reader, next, blocks, None)
            yield await encoding
            block = await following
    finally:
        reader.shutdown()
        worker.shutdown()
        close(blocks, rows)


async def _records(client: Client, lane: Lane) -> AsyncGenerator[tuple[bytes, int]]:
    """(uncompressed records, base offset) of the lane's batches."""
    batches = tail.own_batches(client, lane.partition, lane.first_offset, lane.next_offset, lane.own_ids)
    async with aclosing(batches):
        async for header, packed in batches:
            yield await asyncio.to_thread(recordbatch.decompress, header.codec, packed), header.base_offset


async def _ahead(items: AsyncIterator[Item]) -> AsyncGenerator[Item]:
    """The same items, some of which are fetched before they are asked for."""
    queue: asyncio.Queue[Item | None] = asyncio.Queue(_AHEAD)

    async def fill() -> None:
        try:
            async for item in items:
                await queue.put(item)
        except Exception:
            await queue.put(None)
            raise
        await queue.put(None)

    filling = asyncio.create_task(fill())
    try:
        while (item := await queue.get()) is not None:
            yield item
        await filling
    finally:
        filling.cancel()
        await asyncio.gather(filling, return_exceptions=True)


def _tell(sinks: Sequence[MetricsSink], source: Source, rows: int, text_bytes: int, elapsed_s: float) -> None:
    done_bytes, total_bytes = source.object_bytes(source.start_byte + text_bytes), source.object_size_bytes
    sample = Sample(
        rows=rows,
        bytes_done=done_bytes,
        bytes_total=total_bytes,
        elapsed_s=elapsed_s,
        rows_per_s=rows / elapsed_s,
        eta_s=eta_s(done_bytes, total_bytes, elapsed_s),
        ack_latency_s=None,
        checkpoints=0,
        retries=0,
    )
    for sink in sinks:
        sink.record(sample)
