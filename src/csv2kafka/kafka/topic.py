"""Is the topic fit for the promise? Creates it where it is missing, refuses what would break exactly-once."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from aiokafka.protocol.admin import DescribeConfigsRequest

from csv2kafka.clock import boottime_s
from csv2kafka.errors import JobConflict, TopicError
from csv2kafka.human import plural
from csv2kafka.kafka import protocol
from csv2kafka.kafka.client import GONE_AFTER_S, UNKNOWN_TOPIC, BrokerError, Client, Partition, TopicView, check
from csv2kafka.logs import warn_once

_LOG = logging.getLogger(__name__)
_TOPIC_RESOURCE = 2
_SETTINGS = ("max.message.bytes", "cleanup.policy", "retention.ms", "min.insync.replicas")
_TOPIC_EXISTS = 36
_LEADERS_TOLD = 12
_NO_SETTINGS: Mapping[str, str] = {}
DAY_MS = 24 * 3600 * 1000


@dataclass(frozen=True, slots=True)
class Target:
    """The partition to write to, with what the topic's settings say about it."""

    partition: Partition
    cluster_id: str
    max_message_bytes: int


async def prepare(
    client: Client,
    name: str,
    partition: int | None,
    *,
    create: bool,
    has_begun: bool = False,
    spread: bool = False,
    new_settings: Mapping[str, str] = _NO_SETTINGS,
) -> tuple[Target, ...]:
    """Find (or create) the topic, choose the partition (all of them to `spread` over), check the settings.

    has_begun: the job has written to the topic before, so that one made anew would be another.
    new_settings: of a topic that is created.
    Raises TopicError: missing and not to be created, several partitions and none chosen, no such partition, compacted.
    Raises JobConflict: a job that has begun, and its topic is gone.
    """
    view = await client.topic(name)
    if view is None and has_begun:
        view = await _find_again(client, name)
    if view is None:
        if not create:
            raise TopicError(
                f"topic {name} does not exist", hint="Create it, or leave --no-create-topic out to have it created."
            )
        view = await _create(client, name, new_settings)
    spread = spread and partition is None
    chosen = sorted(view.leaders) if spread else [choose(name, view, partition)]
    settings = await read_settings(client, name, _SETTINGS)
    _check_settings(name, settings)
    if view.replicas < 3:
        replicas = plural(view.replicas, "replica")
        warn_once(_LOG, f"topic {name} has {replicas}: with fewer than 3 a lost disk loses acknowledged rows")
    limit_bytes = int(settings["max.message.bytes"])
    leaders = ", ".join(f"{number} (leader: broker {view.leaders[number]})" for number in chosen[:_LEADERS_TOLD])
    _LOG.debug(
        "topic %s (id %s): %d partition(s), %d replica(s), %s; writing to partition %s%s",
        name,
        view.topic_id,
        len(view.leaders),
        view.replicas,
        ", ".join(f"{setting}={settings[setting]}" for setting in _SETTINGS),
        leaders,
        " ..." if len(chosen) > _LEADERS_TOLD else "",
    )
    return tuple(Target(Partition(name, view.topic_id, number), view.cluster_id, limit_bytes) for number in chosen)


def choose(name: str, view: TopicView, partition: int | None) -> int:
    """The partition that all rows go to. Raises TopicError where that is not clear."""
    count = len(view.leaders)
    if partition is None:
        if count > 1:
            raise TopicError(
                f"topic {name} has {count} partitions, and a file's order holds within one",
                hint=f"Choose one with --partition N (0 to {count - 1}), or spread rows over all of them by a column: "
                "--key COLUMN.",
            )
        return 0
    if partition not in view.leaders:
        raise TopicError(
            f"topic {name} has no partition {partition}, only 0 to {count - 1}", hint="Choose another with --partition."
        )
    return partition


async def _find_again(client: Client, name: str) -> TopicView:
    """A broker that was just started may not know the topic yet: gone is what stays away."""
    end_s = boottime_s() + GONE_AFTER_S
    while boottime_s() < end_s:
        await asyncio.sleep(0.5)
        view = await client.topic(name)
        if view is not None:
            return view
    raise JobConflict(
        f"topic {name}, into which this job began to load, is not there any more",
        hint="The rows sent so far went with it. To load the file from row 1: csv2kafka reset JOB, then run again.",
    )


async def _create(client: Client, name: str, settings: Mapping[str, str]) -> TopicView:
    what = f"creating topic {name}"

    async def ask() -> None:
        answer = await client.ask_any(protocol.create_topic(name, client.settings.request_timeout_ms, settings))
        _, code, message = answer.topics[0]
        if code == _TOPIC_EXISTS:  # our own repeated request, or somebody was faster
            return
        if message and code not in (0, 29, 31):
            raise TopicError(f"{what}: {message}", hint="Create it by hand, or choose another name.")
        check(code, what, needs="Create")

    async def appeared() -> TopicView:
        view = await client.topic(name)
        if view is None or min(view.leaders.values(), default=-1) < 0:
            raise BrokerError(UNKNOWN_TOPIC, what)
        return view

    await client.persist(ask, what)
    view = await client.persist(appeared, what)
    _LOG.warning("created topic %s: 1 partition, %d replica(s), the cluster's default", name, view.replicas)
    return view


async def read_settings(client: Client, name: str, wanted: Sequence[str]) -> dict[str, str]:
    """The topic's settings of these names. Raises Denied without DescribeConfigs."""
    what = f"reading the settings of topic {name}"

    async def ask() -> dict[str, str]:
        answer = await client.ask_any(DescribeConfigsRequest([(_TOPIC_RESOURCE, name, list(wanted))]))
        code, _, _, _, entries = answer.resources[0]
        check(code, what, needs="DescribeConfigs")
        return {entry[0]: entry[1] for entry in entries}

    return await client.persist(ask, what)


def _check_settings(name: str, settings: dict[str, str]) -> None:
    if "compact" in settings["cleanup.policy"]:
        raise TopicError(
            f"topic {name} is compacted (cleanup.policy={settings['cleanup.policy']}): "
            "Kafka would remove rows and the markers that a resume relies on",
            hint="Load into a topic with cleanup.policy=delete.",
        )
    retention_ms = int(settings["retention.ms"])
    if 0 <= retention_ms < DAY_MS:
        warn_once(
            _LOG,
            f"topic {name} keeps records for {retention_ms / 3_600_000:.1f} h only: an interrupted job must be resumed "
            "before its last rows expire",
        )
