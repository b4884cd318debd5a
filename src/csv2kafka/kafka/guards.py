"""Reasons to refuse before anything is sent: each check here closes one way to lose or repeat rows unnoticed.

`log` is the checkpoint's view of Kafka, everything else what the cluster says now.
"""

from __future__ import annotations

from collections.abc import Sequence

from csv2kafka.errors import ConfigError, JobConflict
from csv2kafka.kafka.client import Client
from csv2kafka.kafka.fence import ProducerEpoch
from csv2kafka.kafka.tail import batch_at, log_range
from csv2kafka.kafka.topic import Target
from csv2kafka.model import LanePosition, LogPosition, OwnMark

EPOCH_LIMIT = 32_000  # at 32,767 Kafka gives a new producer id and leaves instances of the old one unfenced
_RESET = "To load the file from row 1: csv2kafka reset JOB, then run again."


def same_topics(log: LogPosition, targets: Sequence[Target]) -> None:
    """The checkpoint's cluster, topics and partitions are the ones at hand (not a topic made again by that name)."""
    if len(log.lanes) != len(targets):
        raise JobConflict(
            f"this job began with {len(log.lanes)} partitions ({_names(log.lanes)}), here there are {len(targets)} "
            f"({_names([target.partition for target in targets])}): its keys would go elsewhere",
            hint="Give the options that it began with; where the topic has got more partitions, choose another "
            f"--job-id and topic. {_RESET}",
        )
    for lane, target in zip(log.lanes, targets, strict=True):
        at = target.partition
        there = {
            "cluster": (log.cluster_id, target.cluster_id),
            "topic": (lane.topic, at.topic),
            "topic id": (lane.topic_id, at.topic_id),
            "partition": (str(lane.partition), str(at.partition)),
        }
        for name, (then, now) in there.items():
            if then != now:
                raise JobConflict(
                    f"this job began with {name} {then}, here it is {now}",
                    hint=f"Its rows are there, not here. Go back to it, or choose another --job-id. {_RESET}",
                )


async def same_log(client: Client, lane: LanePosition, target: Target) -> None:
    """Right before the checkpoint's offset lies what this job put there, and the log still reaches that far."""
    first, end = await log_range(client, target.partition)
    if lane.next_offset > end:
        raise JobConflict(
            f"{lane} ends at offset {end}, before this job's checkpoint at {lane.next_offset}: "
            "acknowledged records were lost (unclean leader election?) or the topic was made again",
            hint=_RESET,
        )
    if lane.last_own is None:
        return
    if lane.next_offset - 1 < first:
        raise JobConflict(
            f"{lane} begins at offset {first}: the records before this job's checkpoint at "
            f"{lane.next_offset} were purged or have expired, so it cannot be proven what followed",
            hint=_RESET,
        )
    header = await batch_at(client, target.partition, lane.next_offset - 1)
    found = header and OwnMark(header.producer_id, header.producer_epoch, header.last_sequence)
    if header is None or found != lane.last_own or header.next_offset != lane.next_offset:
        raise JobConflict(
            f"at offset {lane.next_offset - 1} of {lane} lies {found}, this job wrote {lane.last_own}",
            hint=f"The topic holds other records than this job's checkpoint says. {_RESET}",
        )


def _names(partitions: Sequence[object]) -> str:
    return ", ".join(map(str, partitions[:4])) + (" ..." if len(partitions) > 4 else "")


def known_producer(log: LogPosition, producer: ProducerEpoch, *, accept_new: bool) -> None:
    """The cluster still knows this job's transactional id, and its epochs are not about to run out."""
    if log.producer_ids and producer.producer_id not in log.producer_ids and not accept_new:
        raise JobConflict(
            f"the cluster gave this job a new producer id ({producer.producer_id}): it forgot the old one "
            f"({log.producer_ids[-1]}) after a week without use, or its epochs ran out. "
            "An instance from before that could still write",
            hint="Make sure that no earlier instance of this job is alive (paused, too), "
            "then run again with --accept-new-producer-id.",
        )
    if producer.producer_id in log.producer_ids[:-1]:
        raise JobConflict(
            f"this job went on without a fence (producer id {log.producer_ids[-1]}) since it last had one "
            f"({producer.producer_id})",
            hint="Finish it as it is: --delivery lease-only.",
        )
    if producer.epoch >= EPOCH_LIMIT:
        raise ConfigError(
            f"producer epoch {producer.epoch} is near the end of its range",
            hint="This job was started too often. Make sure that no other instance of it is alive (paused, too), "
            "then run again with --accept-new-producer-id.",
        )


def lost_checkpoint(
    job_id: str, producer: ProducerEpoch, target: Target, *, remembered: bool, log_is_empty: bool
) -> None:
    """A job without a checkpoint must not have written before: Kafka remembers for up to 7 days that it did."""
    if producer.epoch == 0 or log_is_empty:
        return
    certainty = "has written to" if remembered else "was started before and may have written to"
    raise JobConflict(
        f"job {job_id} {certainty} {target.partition.topic} (producer epoch {producer.epoch}), "
        "but its checkpoint is gone or lies in another checkpoint store",
        hint=f"Name the store it used (--checkpoint). If the topic holds none of its rows: csv2kafka reset {job_id}, "
        "then run again.",
    )
