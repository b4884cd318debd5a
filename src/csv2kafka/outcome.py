"""What a run came to: a job's checkpoint -> its receipt."""

from __future__ import annotations

import time

from csv2kafka.errors import JobConflict
from csv2kafka.model import Checkpoint, LanePosition
from csv2kafka.pipeline import Pipeline
from csv2kafka.receipt import LaneReceipt, QuarantineReceipt, Receipt
from csv2kafka.settings import RunSettings
from csv2kafka.sources import Source
from csv2kafka.takeover import Job


def already_complete(found: Checkpoint, settings: RunSettings, source: Source) -> Receipt:
    lanes = lanes_of(found)
    partitions = {lane.partition for lane in lanes}
    if lanes and (lanes[0].topic != settings.topic or settings.partition not in (None, *partitions)):
        raise JobConflict(
            f"job {found.job_id} is complete, in {', '.join(map(str, lanes))}",
            hint="To load the file elsewhere as well, give that load a --job-id of its own.",
        )
    return Receipt(
        job_id=found.job_id,
        source=source.identity,
        topic=settings.topic,
        partitions=_partitions(found),
        status="already complete",
        rows=found.rows,
        rows_this_run=0,
        bytes=found.bytes,
        delivery=settings.delivery,
        takeovers=0,
        foreign_records=0,
        duration_s=0.0,
        rows_per_s=0.0,
        resumed_at_row=found.last_line,
        startup_s=None,
        crc32c=_hex(found.crc32c),
        quarantine=_quarantine(found),
        part=found.part,
    )


def receipt_of(pipeline: Pipeline, job: Job, status: str) -> Receipt:
    checkpoint, progress = pipeline.checkpoint, pipeline.progress
    if checkpoint is None or checkpoint.log is None:  # told to stop before the partition was taken over
        checkpoint = Checkpoint(job.job_id, log=None)
    duration_s = time.monotonic() - progress.began_s
    rows_this_run = max(0, checkpoint.rows - progress.rows_before)
    return Receipt(
        job_id=job.job_id,
        source=job.source.identity,
        topic=job.targets[0].partition.topic,
        partitions=_partitions(checkpoint),
        status=status,
        rows=checkpoint.rows,
        rows_this_run=rows_this_run,
        bytes=checkpoint.bytes,
        delivery=job.delivery,
        takeovers=progress.takeovers,
        foreign_records=progress.foreign_records,
        duration_s=duration_s,
        rows_per_s=rows_this_run / (time.monotonic() - progress.sending_since_s),  # start-up stands apart
        resumed_at_row=job.start.row + progress.rows_before,
        startup_s=progress.startup_s,
        crc32c=_hex(checkpoint.crc32c),
        quarantine=_quarantine(checkpoint),
        part=job.encoder.shape.part,
    )


def _partitions(checkpoint: Checkpoint) -> tuple[LaneReceipt, ...]:
    return tuple(
        LaneReceipt(lane.topic, lane.partition, lane.first_offset, lane.next_offset) for lane in lanes_of(checkpoint)
    )


def lanes_of(checkpoint: Checkpoint) -> tuple[LanePosition, ...]:
    """Where the job stands in the partitions of its good rows."""
    lanes = checkpoint.log.lanes if checkpoint.log else ()
    return lanes[:-1] if lanes and dead_letters_of(checkpoint) else lanes


def dead_letters_of(checkpoint: Checkpoint) -> LanePosition | None:
    """Where the job stands in the dead-letter topic, if its bad rows go to one."""
    quarantine, log = checkpoint.quarantine, checkpoint.log
    return log.lanes[-1] if log is not None and quarantine is not None and not quarantine.is_file else None


def _quarantine(checkpoint: Checkpoint) -> QuarantineReceipt | None:
    quarantine, lane = checkpoint.quarantine, dead_letters_of(checkpoint)
    if quarantine is None:
        return None
    offsets = (lane.first_offset, lane.next_offset) if lane else (None, None)
    return QuarantineReceipt(quarantine.place, quarantine.rows, dict(quarantine.reasons), *offsets)


def _hex(crc32c: int | None) -> str | None:
    return None if crc32c is None else f"{crc32c:08x}"
