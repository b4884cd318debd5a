"""What stands between a job and its promise in the cluster, found out by asking only: nothing is created or changed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from csv2kafka.errors import Denied
from csv2kafka.kafka import protocol
from csv2kafka.kafka.client import Client, Partition
from csv2kafka.kafka.fence import transactional_id
from csv2kafka.kafka.tail import log_range
from csv2kafka.kafka.topic import DAY_MS, choose, read_settings

_SETTINGS = (
    "cleanup.policy",
    "max.message.bytes",
    "min.insync.replicas",
    "retention.bytes",
    "retention.ms",
    "unclean.leader.election.enable",
)
# Kafka's own numbers of operations (AclOperation), and its words for them.
_TOPIC_NEEDS = {3: "Read", 4: "Write", 10: "DescribeConfigs"}
_CREATE = 5
_IDEMPOTENT_WRITE = 12
_UNKNOWN = -(1 << 31)  # the broker did not say


@dataclass(frozen=True, slots=True)
class Finding:
    """Something to know before a load. `exit_code`: with which it would end; None: it would not, but look at it."""

    what: str
    fix: str
    exit_code: int | None = None


@dataclass(frozen=True, slots=True)
class TopicOutlook:
    """A topic as it is; `exists` False: as it would be created, of which little is known."""

    name: str
    exists: bool
    partitions: tuple[int, ...]  # that rows would go to
    replicas: int | None
    records: int  # in those partitions, or offsets that were records
    settings: dict[str, str]
    findings: tuple[Finding, ...]
    is_for_bad_rows: bool = False

    def __str__(self) -> str:
        return _called(self.name, self.is_for_bad_rows)


async def look(
    client: Client,
    name: str,
    partition: int | None,
    *,
    create: bool,
    spread: bool = False,
    is_for_bad_rows: bool = False,
) -> TopicOutlook:
    """Raises what only a person can mend before anything can be told: no connection, no such partition."""
    findings: list[Finding] = []
    topic_name = _called(name, is_for_bad_rows)
    try:
        answer = await client.persist(lambda: client.ask_any(protocol.permissions([name])), f"describing {topic_name}")
        view = await client.topic(name)
    except Denied:
        return TopicOutlook(name, False, (), None, 0, {}, (_denied("Describe", topic_name),), is_for_bad_rows)
    if view is None:
        if not create:
            findings.append(Finding(f"{topic_name} does not exist", "Create it, or leave --no-create-topic out.", 78))
        elif not _may(answer.cluster_authorized_operations, _CREATE):
            findings.append(_denied("Create", f"the cluster (or on {topic_name}, which cannot be seen before)"))
        return TopicOutlook(name, False, (0,), None, 0, {}, tuple(findings), is_for_bad_rows)
    topic = answer.topics[0]  # error, name, id, internal, partitions, operations
    missing = [word for number, word in _TOPIC_NEEDS.items() if not _may(topic[5], number)]
    findings += [_denied(word, topic_name) for word in missing]
    chosen = tuple(sorted(view.leaders)) if spread and partition is None else (choose(name, view, partition),)
    settings = {} if "DescribeConfigs" in missing else await read_settings(client, name, _SETTINGS)
    in_sync = min(len(partition[5]) for partition in topic[4])
    findings += _endangered(topic_name, settings, view.replicas, in_sync)
    records = 0
    for number in chosen:
        first, end = await log_range(client, Partition(name, view.topic_id, number))
        records += end - first
    return TopicOutlook(name, True, chosen, view.replicas, records, settings, tuple(findings), is_for_bad_rows)


def too_small(topic: TopicOutlook, topic_bytes: int | None, duration_s: float | None) -> Iterator[Finding]:
    """What the topic would throw away before the load is done and somebody has read it."""
    retention_bytes = int(topic.settings.get("retention.bytes", -1))
    share = None if topic_bytes is None else topic_bytes / max(1, len(topic.partitions))
    if share is not None and 0 <= retention_bytes < share:
        yield Finding(
            f"{topic} keeps {retention_bytes:,} bytes of a partition, the load makes about {share:,.0f}: "
            "its first rows would be deleted before its last ones are written",
            "Raise retention.bytes of the topic.",
        )
    retention_ms = int(topic.settings.get("retention.ms", -1))
    if duration_s is not None and 0 <= retention_ms < 1000 * duration_s:
        yield Finding(
            f"{topic} keeps records for {retention_ms / 3_600_000:.1f} h, less than the load takes",
            "Raise retention.ms of the topic.",
        )


def _endangered(topic: str, settings: dict[str, str], replicas: int, in_sync: int) -> Iterator[Finding]:
    if "compact" in settings.get("cleanup.policy", ""):
        yield Finding(
            f"{topic} is compacted: Kafka would remove rows", "Load into a topic with cleanup.policy=delete.", 78
        )
    if replicas < 3:
        yield Finding(
            f"{topic} has {replicas} replica{'' if replicas == 1 else 's'}: with fewer than 3 a lost disk loses "
            "acknowledged rows",
            "Use a topic with a replication factor of 3.",
        )
    at_least = int(settings.get("min.insync.replicas", 1))
    if settings and at_least < 2:
        yield Finding(
            f"{topic} acknowledges what one replica has (min.insync.replicas={at_least})",
            "Set min.insync.replicas=2 with 3 replicas.",
        )
    if in_sync < at_least:
        yield Finding(
            f"{topic} has a partition with {in_sync} replicas in sync, and needs {at_least}: it takes no rows now",
            "Bring its brokers back.",
            75,
        )
    if settings.get("unclean.leader.election.enable") == "true":
        yield Finding(
            f"{topic} may elect a leader that lacks acknowledged rows", "Set unclean.leader.election.enable=false."
        )
    if 0 <= int(settings.get("retention.ms", -1)) < DAY_MS:
        hours = int(settings["retention.ms"]) / 3_600_000
        yield Finding(
            f"{topic} keeps records for {hours:.1f} h only",
            "Resume an interrupted job before its last rows expire, or raise retention.ms.",
        )


async def look_at_producer(client: Client, name: str, job_id: str, *, fenced: bool) -> list[Finding]:
    """What is missing to become the job's only producer into topic `name`, and the topic for its bad rows.

    Whether the transactional id may be seen. Whether it may be written to only writing tells.
    """
    if not fenced:
        what = "asking what may be done to the cluster"
        answer = await client.persist(lambda: client.ask_any(protocol.permissions([name])), what)
        may = _may(answer.cluster_authorized_operations, _IDEMPOTENT_WRITE)
        return [] if may else [_denied("IdempotentWrite", "the cluster")]
    txn_id = transactional_id(job_id, name)
    try:
        await client.persist(lambda: client.find_coordinator(txn_id), f"asking who coordinates {txn_id}")
    except Denied as error:
        return [Finding(error.message, error.hint, error.exit_code)]
    return []


def _called(name: str, is_for_bad_rows: bool) -> str:
    return f"dead-letter topic {name}" if is_for_bad_rows else f"topic {name}"


def _may(operations: int, number: int) -> bool:
    return operations == _UNKNOWN or bool(operations >> number & 1)


def _denied(operation: str, where: str) -> Finding:
    return Finding(
        f"the cluster denies {operation} on {where}",
        "Grant it (kafka-acls.sh --add --allow-principal ... --operation ...).",
        Denied.exit_code,
    )
