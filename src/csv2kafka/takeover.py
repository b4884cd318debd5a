"""Take a partition over: start, resume, and the way out of every doubtful send are this one path.

Fence off whoever wrote before, read what of ours lies behind the checkpoint, prove it against the file, save, and
hand a footing to the sender. The steps themselves are in `kafka/`: fence, tail, guards; here is their order, which
is what makes them safe. Blocking work (file, checkpoint store) runs in threads.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import closing
from dataclasses import dataclass, replace

from csv2kafka import failpoints, recordbatch
from csv2kafka.clock import boottime_s
from csv2kafka.encoder import Encoder
from csv2kafka.errors import JobConflict
from csv2kafka.kafka import fence, guards, tail
from csv2kafka.kafka.client import Client
from csv2kafka.kafka.sender import Footing
from csv2kafka.kafka.topic import Target
from csv2kafka.keeper import Keeper
from csv2kafka.model import FENCED, LEASE_ONLY, Checkpoint, Delivery, Header, JobStatus, LogPosition, Position
from csv2kafka.sources import Source
from csv2kafka.splitter import skip_rows, take_rows

_LOG = logging.getLogger(__name__)

STILL_S = 5.0  # without a fence: how long nothing of an earlier instance must have come in


@dataclass(frozen=True, slots=True)
class Job:
    """Everything that stays the same while a job runs; the keeper's store holds its lease."""

    job_id: str
    source: Source
    header: Header
    encoder: Encoder
    keeper: Keeper
    client: Client
    target: Target
    delivery: Delivery = FENCED
    accept_new_producer_id: bool = False
    store_is_only_authority: bool = False  # start at row 1 even if Kafka remembers that the job wrote before


@dataclass(frozen=True, slots=True)
class Standing:
    """The outcome: what may be relied on, saved already, and what the sender stands on."""

    checkpoint: Checkpoint
    footing: Footing
    foreign_records: int  # of other programs, found behind the checkpoint


async def take_over(job: Job, found: Checkpoint | None) -> Standing:
    """Become the only writer of the job's rows and find the first row that is not in the log.

    `found` is the newest checkpoint, None for a job never seen.
    Raises JobConflict where log, checkpoint and file do not fit together, Fenced when another instance is newer.
    """
    checkpoint = await _base(job, found)
    log = _log_of(checkpoint)
    producer = await _new_producer(job, log, is_first=found is None)
    failpoints.reach("epoch_started")
    if producer.producer_id not in log.producer_ids:
        log = replace(log, producer_ids=(*log.producer_ids, producer.producer_id))
        checkpoint = replace(checkpoint, log=log)
    # Before anything of this epoch can be in the log, its producer id must be among those that are read back.
    await job.keeper.save(checkpoint)
    failpoints.reach("epoch_saved")

    read = await _read_tail(job, producer, log, is_first=found is None)
    since_s = boottime_s()
    failpoints.reach("tail_read")
    own = tail.reconcile(read.headers, log.producer_ids, log.last_own)
    if own.foreign_records:
        _LOG.warning(
            "other programs write to %s as well (%d records since the checkpoint): they lie between the rows",
            job.target.partition,
            own.foreign_records,
        )
    position = await asyncio.to_thread(_prove, job, _position_of(checkpoint), own, read.last_records)
    failpoints.reach("tail_proven")
    log = replace(log, next_offset=own.next_offset or log.next_offset, last_own=own.last)
    checkpoint = replace(
        checkpoint,
        last_line=position.row,
        byte_offset=position.byte_offset,
        restart=job.source.restart_before(position.byte_offset),
        total_sent=checkpoint.total_sent + own.rows,
        log=log,
    )
    await job.keeper.save(checkpoint)
    failpoints.reach("takeover_saved")
    if own.rows:
        _LOG.info("%d rows behind the checkpoint were already in the topic", own.rows)
    own_offset = log.next_offset - 1 if log.last_own else None
    footing = Footing(job.target.partition, producer, read.end_offset, read.timestamp_ms, since_s, own_offset)
    return Standing(checkpoint, footing, own.foreign_records)


async def _new_producer(job: Job, log: LogPosition, *, is_first: bool) -> fence.ProducerEpoch:
    """The producer to write with from now on. Raises JobConflict where its history forbids that."""
    if job.delivery == LEASE_ONLY:
        if is_first and log.next_offset:
            _LOG.warning(
                "%s is not empty, and without a fence nothing tells whether this job has written to it before",
                job.target.partition,
            )
        return await fence.unfenced_producer(job.client)
    producer = await fence.new_epoch(job.client, _transactional_id(job))
    if producer.epoch >= guards.EPOCH_LIMIT and job.accept_new_producer_id:
        producer = await fence.new_producer_id(job.client, _transactional_id(job), producer)
    guards.known_producer(log, producer, accept_new=job.accept_new_producer_id)
    if is_first:
        await _refuse_lost_checkpoint(job, producer)
    return producer


async def _read_tail(job: Job, producer: fence.ProducerEpoch, log: LogPosition, *, is_first: bool) -> tail.Tail:
    """What lies behind the checkpoint, behind which nothing of earlier instances can come any more (fenced) or
    did come for a while (lease-only).
    """
    partition = job.target.partition
    if job.delivery == LEASE_ONLY:
        still_s = 0.0 if is_first else STILL_S
        return await tail.read_to_stable_end(job.client, partition, log.next_offset, log.producer_ids, still_s=still_s)
    await fence.append_marker(job.client, _transactional_id(job), producer, partition)
    return await tail.read_to_marker(job.client, partition, log.next_offset, producer, log.producer_ids)


def _transactional_id(job: Job) -> str:
    return fence.transactional_id(job.job_id, job.target.partition.topic)


async def _base(job: Job, found: Checkpoint | None) -> Checkpoint:
    """The checkpoint to go on from: the one found, or a new one at the log's end."""
    if found is not None and found.log is not None:
        guards.same_topic(found.log, job.target)
        await guards.same_log(job.client, found.log, job.target)
        return replace(found, status=JobStatus.IN_PROGRESS)
    _, end = await tail.log_range(job.client, job.target.partition)
    partition = job.target.partition
    position = Position(0, job.header.end_byte)
    total_sent = 0
    if found is not None and found.last_line > 0:
        _LOG.warning(
            "the checkpoint says only that %d rows were sent, not where they lie in the topic: "
            "going on at row %d; rows sent after that checkpoint will repeat",
            found.last_line,
            found.last_line + 1,
        )
        position = await asyncio.to_thread(_row_after, job, position, found.last_line)
        total_sent = found.total_sent
    return Checkpoint(
        job_id=job.job_id,
        last_line=position.row,
        total_sent=total_sent,
        byte_offset=position.byte_offset,
        source=job.source.identity,
        record_shape=job.encoder.shape.as_json(),
        log=LogPosition(job.target.cluster_id, partition.topic, partition.topic_id, partition.partition, end),
        first_offset=end,
    )


async def _refuse_lost_checkpoint(job: Job, producer: fence.ProducerEpoch) -> None:
    if producer.epoch == 0:
        return
    if job.store_is_only_authority:
        _LOG.warning(
            "Kafka remembers an earlier run of job %s, the checkpoint table does not: beginning at row 1", job.job_id
        )
        return
    first, end = await tail.log_range(job.client, job.target.partition)
    remembered = await fence.remembers(job.client, producer.producer_id, job.target.partition)
    guards.lost_checkpoint(job.job_id, producer, job.target, remembered=remembered, log_is_empty=first == end)


def _prove(job: Job, start: Position, own: tail.OwnRows, last_records: bytes) -> Position:
    """The position behind the job's last row in the log, after comparing its last batch with the file."""
    last = own.last_batch
    if last is None:
        return start
    goal = start.row + own.rows
    at = _row_after(job, start, own.rows - last.rows)
    with closing(job.source.read_from(at.byte_offset)) as chunks:
        block = take_rows(chunks, at, last.rows, job.encoder.dialect)
    if block.rows != last.rows or job.encoder.frame(block)[0] != recordbatch.decompress(
        last.codec, memoryview(last_records)
    ):
        raise JobConflict(
            f"the records at offsets {last.base_offset} to {last.next_offset - 1} of {job.target.partition} "
            f"are not rows {at.row + 1} to {goal} of {job.source.identity.uri}",
            hint="The topic holds other rows than the file: it was loaded from another file or with other options. "
            "Nothing was sent. Use another --job-id and topic, or csv2kafka reset JOB.",
        )
    return block.end


def _row_after(job: Job, start: Position, rows: int) -> Position:
    if rows == 0:
        return start
    with closing(job.source.read_from(start.byte_offset)) as chunks:
        position = skip_rows(chunks, start, rows, job.encoder.dialect)
    if position.row != start.row + rows:
        raise JobConflict(
            f"{job.source.identity.uri} has {position.row} rows, but {start.row + rows} were sent",
            hint="The topic or the checkpoint belongs to another file. Use another --job-id, or csv2kafka reset JOB.",
        )
    return position


def _log_of(checkpoint: Checkpoint) -> LogPosition:
    if checkpoint.log is None:
        raise AssertionError("a base checkpoint has a log position")
    return checkpoint.log


def _position_of(checkpoint: Checkpoint) -> Position:
    if checkpoint.position is None:
        raise AssertionError("a base checkpoint has a position")
    return checkpoint.position
