"""The broker's limit: our batches, encoded and compressed beforehand, through our sender and nothing else.

See the package for the call. What a run adds (reading, parsing, compressing, checkpoints) happens before the clock
starts or not at all.
"""

from __future__ import annotations

import asyncio
import sys
from collections import deque
from contextlib import closing
from pathlib import Path

from bench.senders import timed
from csv2kafka import recordbatch
from csv2kafka.clock import boottime_s
from csv2kafka.encoder import Encoder
from csv2kafka.kafka import fence, tail, topic
from csv2kafka.kafka.client import Client
from csv2kafka.kafka.sender import Footing, Sender
from csv2kafka.kafka.topic import Target
from csv2kafka.kafka_settings import KafkaSettings
from csv2kafka.model import Batch, Dialect, Position, RecordShape
from csv2kafka.sources import open_source
from csv2kafka.splitter import read_header, split


def build(path: Path, rows: int, max_batch_bytes: int) -> list[Batch]:
    """The file's batches until `rows` rows are in them, the last whole."""
    dialect = Dialect()
    with open_source(str(path)) as source:
        header = read_header(source.read_from(0), dialect)
        encoder = Encoder(RecordShape(header.columns, dialect), recordbatch.CODECS["lz4"], max_batch_bytes)
        batches: list[Batch] = []
        start = Position(0, header.end_byte)
        with closing(source.read_from(start.byte_offset)) as chunks:
            for block in split(chunks, start, dialect, lambda: encoder.block_bytes):
                batches += (batch for portion in encoder.encode(block).portions for batch in portion.batches)
                if block.end.row >= rows:
                    break
    return batches


async def footing(client: Client, target: Target) -> Footing:
    """A producer epoch of our own on a new topic, as a take-over gets it."""
    partition = target.partition
    txn_id = fence.transactional_id("bench", partition.topic)
    producer = await fence.new_epoch(client, txn_id)
    await fence.append_markers(client, txn_id, producer, [partition])
    read = await tail.read_to_marker(client, partition, 0, producer, (producer.producer_id,))
    return Footing(partition, producer, read.end_offset, read.timestamp_ms, boottime_s())


async def send(bootstrap: str, topic_name: str, path: Path, rows: int) -> None:
    async with Client(KafkaSettings(bootstrap=bootstrap)) as client:
        (target,) = await topic.prepare(client, topic_name, 0, create=False)
        batches = build(path, rows, target.max_message_bytes)
        sender = Sender(client, await footing(client, target))
        unanswered: deque[asyncio.Future[int]] = deque()
        with timed():
            for batch in batches:
                unanswered.append(sender.send(batch))
                if len(unanswered) > 1:
                    await unanswered.popleft()
            await asyncio.gather(*unanswered)


if __name__ == "__main__":
    bootstrap, topic_name, path, rows = sys.argv[1:]
    asyncio.run(send(bootstrap, topic_name, Path(path), int(rows)))
