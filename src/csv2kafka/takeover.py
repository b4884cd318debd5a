"""Take a job's partitions over: start, resume, and the way out of every doubtful send are this one path.

Fence off whoever wrote before, read what of ours lies behind the checkpoint, prove it against the file, save, and
hand footings to the senders. The steps themselves are in `kafka/`: fence, tail, guards; here is their order, which
is what makes them safe. Blocking work (file, checkpoint store) runs in threads.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace

from csv2kafka import failpoints, human, proof
from csv2kafka.clock import boottime_s
from csv2kafka.encoder import Encoder
from csv2kafka.kafka import fence, guards, tail
from csv2kafka.kafka.client import Client
from csv2kafka.kafka.sender import Footing
from csv2kafka.kafka.topic import Target
from csv2kafka.keeper import Keeper
from csv2kafka.model import (
    FENCED,
    LEASE_ONLY,
    Checkpoint,
    Delivery,
    JobStatus,
    LanePosition,
    LogPosition,
    Position,
    Quarantine,
)
from csv2kafka.quarantine import ANY_NUMBER, Tolerance
from csv2kafka.quarantine_file import QuarantineFile
from csv2kafka.sources import Source

_LOG = logging.getLogger(__name__)

STILL_S = 5.0  # without a fence: how long nothing of an earlier instance must have come in


@dataclass(frozen=True, slots=True)
class BadRows:
    """What a job does with them: nothing but end, or set them apart, within bounds."""

    quarantine: Quarantine | None = None  # as it is when a job begins; for a topic its lane is the last one
    file: QuarantineFile | None = None
    tolerance: Tolerance = ANY_NUMBER


END_AT_BAD_ROWS = BadRows()


@dataclass(frozen=True, slots=True)
class Job:
    """Everything that stays the same while a job runs; the keeper's store holds its lease."""

    job_id: str
    source: Source
    start: Position  # where the job's first row begins
    encoder: Encoder
    keeper: Keeper
    client: Client
    targets: tuple[Target, ...]  # the lanes: one for each that the encoder writes batches for
    bad_rows: BadRows = END_AT_BAD_ROWS
    delivery: Delivery = FENCED
    accept_new_producer_id: bool = False
    store_is_only_authority: bool = False  # start at row 1 even if Kafka remembers that the job wrote before


@dataclass(frozen=True, slots=True)
class Standing:
    """The outcome: what may be relied on, saved already, and what the senders stand on, one in each lane."""

    checkpoint: Checkpoint
    footings: tuple[Footing, ...]
    foreign_records: int  # of other programs, found behind the checkpoint


async def take_over(job: Job, found: Checkpoint | None) -> Standing:
    """Become the only writer of the job's rows and find the first row that is not in the log.

    `found` is the newest checkpoint, None for a job never seen.
    Raises JobConflict where log, checkpoint and file do not fit together, Fenced when another instance is newer.
    """
    checkpoint = await _base(job, found)
    await _rewind_file(job, found, checkpoint)
    log = _log_of(checkpoint)
    producer = await _new_producer(job, log, is_first=found is None)
    failpoints.reach("epoch_started")
    if producer.producer_id not in log.producer_ids:
        log = replace(log, producer_ids=(*log.producer_ids, producer.producer_id))
        checkpoint = replace(checkpoint, log=log)
    # Before anything of this epoch can be in the log, its producer id must be among those that are read back.
    await job.keeper.save(checkpoint)
    failpoints.reach("epoch_saved")

    reads = await _read_tails(job, producer, log, is_first=found is None)
    since_s = boottime_s()
    failpoints.reach("tail_read")
    owns = [
        tail.reconcile(read.headers, log.producer_ids, lane.last_own)
        for read, lane in zip(reads, log.lanes, strict=True)
    ]
    foreign_records = sum(own.foreign_records for own in owns)
    if foreign_records:
        _LOG.warning(
            "other programs write to %s as well (%d records since the checkpoint): they lie between the rows",
            job.targets[0].partition.topic,
            foreign_records,
        )
    # The rows in each lane behind the checkpoint's position: found now, and found by take-overs before this one.
    tails = [
        proof.LaneTail(lane.ahead_rows + own.rows, own.last_batch, read.last_records)
        for lane, own, read in zip(log.lanes, owns, reads, strict=True)
    ]
    proven = await _prove(job, _position_of(checkpoint), tails)
    failpoints.reach("tail_proven")
    lanes = tuple(
        replace(lane, next_offset=own.next_offset or lane.next_offset, last_own=own.last, ahead_rows=ahead_rows)
        for lane, own, ahead_rows in zip(log.lanes, owns, proven.ahead_rows, strict=True)
    )
    checkpoint = replace(
        checkpoint,
        last_line=proven.position.row,
        byte_offset=proven.position.byte_offset,
        restart=job.source.restart_before(proven.position.byte_offset),
        crc32c=await _checksum(job, checkpoint, proven.position),
        total_sent=checkpoint.total_sent + proven.position.row - checkpoint.last_line,
        log=replace(log, lanes=lanes),
    )
    await job.keeper.save(checkpoint)
    failpoints.reach("takeover_saved")
    if rows := sum(own.rows for own in owns):
        _LOG.info("%s behind the checkpoint were already in the topic", human.plural(rows, "row"))
    return Standing(checkpoint, _footings(job, producer, reads, lanes, since_s), foreign_records)


def _footings(
    job: Job, producer: fence.ProducerEpoch, reads: list[tail.Tail], lanes: Sequence[LanePosition], since_s: float
) -> tuple[Footing, ...]:
    found = []
    for target, read, lane in zip(job.targets, reads, lanes, strict=True):
        own_offset = lane.next_offset - 1 if lane.last_own else None
        found.append(Footing(target.partition, producer, read.end_offset, read.timestamp_ms, since_s, own_offset))
    return tuple(found)


async def _new_producer(job: Job, log: LogPosition, *, is_first: bool) -> fence.ProducerEpoch:
    """The producer to write with from now on. Raises JobConflict where its history forbids that."""
    if job.delivery == LEASE_ONLY:
        if is_first and any(lane.next_offset for lane in log.lanes):
            _LOG.warning(
                "%s is not empty, and without a fence nothing tells whether this job has written to it before",
                job.targets[0].partition.topic,
            )
        return await fence.unfenced_producer(job.client)
    producer = await fence.new_epoch(job.client, _transactional_id(job))
    if producer.epoch >= guards.EPOCH_LIMIT and job.accept_new_producer_id:
        producer = await fence.new_producer_id(job.client, _transactional_id(job), producer)
    guards.known_producer(log, producer, accept_new=job.accept_new_producer_id)
    if is_first:
        await _refuse_lost_checkpoint(job, producer)
    return producer


async def _read_tails(job: Job, producer: fence.ProducerEpoch, log: LogPosition, *, is_first: bool) -> list[tail.Tail]:
    """What lies behind the checkpoint in each lane, behind which nothing of earlier instances can come any more
    (fenced) or did come for a while (lease-only).
    """
    partitions = [target.partition for target in job.targets]
    starts = [lane.next_offset for lane in log.lanes]
    if job.delivery == LEASE_ONLY:
        still_s = 0.0 if is_first else STILL_S
        return [
            await tail.read_to_stable_end(job.client, partition, start, log.producer_ids, still_s=still_s)
            for partition, start in zip(partitions, starts, strict=True)
        ]
    await fence.append_markers(job.client, _transactional_id(job), producer, partitions)
    return [
        await tail.read_to_marker(job.client, partition, start, producer, log.producer_ids)
        for partition, start in zip(partitions, starts, strict=True)
    ]


def _transactional_id(job: Job) -> str:
    return fence.transactional_id(job.job_id, job.targets[0].partition.topic)


async def _base(job: Job, found: Checkpoint | None) -> Checkpoint:
    """The checkpoint to go on from: the one found, or a new one at the logs' ends."""
    if found is not None and found.log is not None:
        log, begun = found.log, job.bad_rows.quarantine
        if begun is not None and found.quarantine is None and not begun.is_file:
            log = replace(log, lanes=(*log.lanes, await _new_lane(job, job.targets[-1])))
        guards.same_topics(log, job.targets)
        for lane, target in zip(log.lanes, job.targets, strict=True):
            await guards.same_log(job.client, lane, target)
        return replace(
            found, status=JobStatus.IN_PROGRESS, log=log, quarantine=found.quarantine or begun, last_error=None
        )
    position = job.start
    total_sent = 0
    if found is not None and found.last_line > position.row:
        _LOG.warning(
            "the checkpoint says only that %d rows were sent, not where they lie in the topic: "
            "going on at row %d; rows sent after that checkpoint will repeat",
            found.last_line,
            found.last_line + 1,
        )
        rows = found.last_line - position.row
        position = await asyncio.to_thread(proof.row_after, job.source, job.encoder.dialect, position, rows)
        total_sent = found.total_sent
    lanes = [await _new_lane(job, target) for target in job.targets]
    return Checkpoint(
        job_id=job.job_id,
        last_line=position.row,
        total_sent=total_sent,
        byte_offset=position.byte_offset,
        source=job.source.identity,
        record_shape=job.encoder.shape.as_json(),
        log=LogPosition(job.targets[0].cluster_id, tuple(lanes)),
        quarantine=job.bad_rows.quarantine,
        crc32c=await asyncio.to_thread(proof.checksum_of, job.source, job.source.start_byte, position.byte_offset),
    )


async def _prove(job: Job, position: Position, tails: Sequence[proof.LaneTail]) -> proof.Proven:
    proven = await asyncio.to_thread(proof.prove, job.source, job.encoder, job.targets, position, tails)
    _LOG.debug(
        "what lies in the topic is proven against the file: going on behind row %s, byte %s",
        f"{proven.position.row:,}",
        f"{proven.position.byte_offset:,}",
    )
    return proven


async def _checksum(job: Job, checkpoint: Checkpoint, end: Position) -> int | None:
    """Of the text until `end`; None where an earlier version of this program, or another one, has begun without."""
    start_byte, before = checkpoint.byte_offset or 0, checkpoint.crc32c
    if before is None or end.byte_offset == start_byte:
        return before
    return await asyncio.to_thread(proof.checksum_of, job.source, start_byte, end.byte_offset, before)


async def _rewind_file(job: Job, found: Checkpoint | None, checkpoint: Checkpoint) -> None:
    """Bad rows behind the checkpoint are written anew."""
    if job.bad_rows.file is not None and checkpoint.quarantine is not None:
        is_new = found is None or found.quarantine is None
        await asyncio.to_thread(job.bad_rows.file.rewind, checkpoint.quarantine, is_new=is_new)


async def _new_lane(job: Job, target: Target) -> LanePosition:
    _, end = await tail.log_range(job.client, target.partition)
    at = target.partition
    return LanePosition(at.topic, at.topic_id, at.partition, end, end)


async def _refuse_lost_checkpoint(job: Job, producer: fence.ProducerEpoch) -> None:
    if producer.epoch == 0:
        return
    # Another instance that took the job over is no lost checkpoint: then Fenced is raised, and its hint is harmless.
    await job.keeper.confirm()
    if job.store_is_only_authority:
        _LOG.warning(
            "Kafka remembers an earlier run of job %s, the checkpoint table does not: beginning at row 1", job.job_id
        )
        return
    remembered, is_empty = False, True
    for target in job.targets:
        first, end = await tail.log_range(job.client, target.partition)
        is_empty = is_empty and first == end
        remembered = remembered or await fence.remembers(job.client, producer.producer_id, target.partition)
    guards.lost_checkpoint(job.job_id, producer, job.targets[0], remembered=remembered, log_is_empty=is_empty)


def _log_of(checkpoint: Checkpoint) -> LogPosition:
    if checkpoint.log is None:
        raise AssertionError("a base checkpoint has a log position")
    return checkpoint.log


def _position_of(checkpoint: Checkpoint) -> Position:
    if checkpoint.position is None:
        raise AssertionError("a base checkpoint has a position")
    return checkpoint.position
