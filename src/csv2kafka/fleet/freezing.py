"""Freeze what a fleet loads, or find it frozen: files, versions, partitions, kept beside the checkpoints."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime

from csv2kafka.checkpoints import CheckpointStore, open_store
from csv2kafka.checkpoints.item import from_item
from csv2kafka.errors import ConfigError, JobConflict, Retryable, SourceError, TopicError, UsageError
from csv2kafka.fleet import manifest as manifests
from csv2kafka.fleet.listing import find
from csv2kafka.fleet.manifest import SINGLE, Entry, Manifest, Placement
from csv2kafka.fleet.placement import partitions_for
from csv2kafka.jobs import DEAD_LETTER_SETTINGS
from csv2kafka.kafka import topic
from csv2kafka.kafka.client import Client, TopicView
from csv2kafka.model import Checkpoint, JobStatus, Quarantine, SourceIdentity
from csv2kafka.pipeline import StopFlag
from csv2kafka.settings import RunSettings, StoreSettings
from csv2kafka.threads import run_on_a_loop

_LOG = logging.getLogger(__name__)
_ROUND_ROBIN: Placement = "round-robin"


@dataclass(frozen=True, slots=True)
class Options:
    """A fleet's own options, beside those that each of its jobs gets."""

    scheduler: str | None
    local_workers: int
    placement: Placement | None = None
    split: int | None = None
    per_broker: int | None = None


def freeze(
    settings: RunSettings, options: Options, stop: StopFlag, *, keep: bool = True, look: bool = True
) -> Manifest:
    """The fleet's manifest, made and kept now unless it was before. `keep` False leaves nothing, no topic either.

    look: whether to warn of files that have come since it was frozen.

    Raises what finding the files, asking the cluster and the first pass raise; JobConflict for another fleet.
    """
    _refuse_unshared(settings, options)
    store = store_of(settings)
    name = settings.job
    kept = store.kept(name)
    if kept is not None:
        found = manifests.from_bytes(kept)
        manifests.refuse_other(found, settings.source, settings.topic, options.placement, options.split)
        if look:
            _tell_of_others(found, settings)
        return found
    made = _make(settings, options, stop, keep=keep)
    if keep and not store.keep(name, manifests.to_bytes(made)):
        return freeze(settings, options, stop, look=False)  # somebody was faster
    return made


def store_of(settings: StoreSettings) -> CheckpointStore:
    return open_store(settings.checkpoint_url, "-", region=settings.region, profile=settings.profile)


def kept_manifest(store: CheckpointStore, name: str) -> Manifest:
    """Raises JobConflict where there is no such fleet."""
    kept = store.kept(name)
    if kept is None:
        raise no_such_fleet(name)
    return manifests.from_bytes(kept)


def no_such_fleet(name: str) -> JobConflict:
    return JobConflict(
        f"there is no fleet {name}", hint="See its name in its receipt; name its store with --checkpoint."
    )


def checkpoints_of(store: CheckpointStore, manifest: Manifest) -> dict[int, Checkpoint]:
    """Of the manifest's jobs that have begun, by their entries' indexes."""
    indexes = {manifest.job_id(entry): entry.index for entry in manifest.entries}
    items = {indexes[item["job_id"]]: item for item in store.look() if item["job_id"] in indexes}
    found = {index: from_item(item) for index, item in items.items()}
    return {index: checkpoint for index, checkpoint in found.items() if checkpoint is not None}


def refuse_too_early(store: CheckpointStore, manifest: Manifest, entry: Entry) -> None:
    """Where all goes into one partition in order, and nobody hands it out: each waits for the one before it.

    Raises Retryable while that is not complete.
    """
    if manifest.placement != SINGLE or entry.index == 0:
        return
    before = manifest.entries[entry.index - 1]
    found = store.load(manifest.job_id(before))
    if found is None or found.status != JobStatus.COMPLETED:
        raise Retryable(
            f"{manifest.job_id(before)}, which comes before this file in its partition, is not complete",
            hint="Load them one after the other: in AWS Batch by --depends-on type=SEQUENTIAL.",
        )


async def look_at_topic(settings: RunSettings, placement: Placement) -> TopicView:
    """The topic as it is; made where all goes into one partition, as for a job. The dead-letter topic as well."""
    async with Client(settings.kafka) as client:
        view = await _view_of(settings, placement, client)
        await topic.prepare(client, settings.topic, 0, create=settings.create_topic)
        if (place := settings.bad_rows_topic) is not None:
            await topic.prepare(client, place, 0, create=settings.create_topic, new_settings=DEAD_LETTER_SETTINGS)
        found = view or await client.topic(settings.topic)
        if found is None:
            raise TopicError(f"topic {settings.topic} was deleted a moment ago", hint="Run the same command again.")
        return found


async def _count_partitions(settings: RunSettings, placement: Placement) -> int:
    """Of the topic, or of the one that a run would make."""
    async with Client(settings.kafka) as client:
        view = await _view_of(settings, placement, client)
        return len(view.leaders) if view is not None else 1


async def _view_of(settings: RunSettings, placement: Placement, client: Client) -> TopicView | None:
    view = await client.topic(settings.topic)
    if view is None and placement != SINGLE:
        raise TopicError(
            f"topic {settings.topic} does not exist, and the files are to be spread over its partitions",
            hint=f"Create it: kafka-topics.sh --create --topic {settings.topic} --partitions N "
            "--replication-factor 3 --config min.insync.replicas=2. Or load all into one: --placement single.",
        )
    return view


def _refuse_unshared(settings: RunSettings, options: Options) -> None:
    place = settings.bad_rows_place
    if place is not None and Quarantine(place).is_file:
        raise UsageError("--bad-rows-to names one file for many jobs", hint="Name a topic.")
    if options.scheduler is not None and settings.checkpoint_url is None:
        raise ConfigError(
            "the default checkpoint file is this machine's, and the workers may be on others",
            hint="Keep checkpoints in a table: --checkpoint dynamodb://TABLE. Where all workers run on this machine, "
            "name the file: --checkpoint sqlite:////PATH.",
        )


def _make(settings: RunSettings, options: Options, stop: StopFlag, *, keep: bool) -> Manifest:
    sources = find(settings.source, region=settings.region, profile=settings.profile)
    placement = options.placement or _ROUND_ROBIN
    if keep:
        partitions = len(run_on_a_loop(look_at_topic(settings, placement)).leaders)
    else:
        partitions = run_on_a_loop(_count_partitions(settings, placement))
    if options.split is not None:
        entries = _parts(sources, settings, options, placement, partitions, stop)
    else:
        places = partitions_for(sources, placement, partitions)
        entries = tuple(Entry(n, source, place) for n, (source, place) in enumerate(zip(sources, places, strict=True)))
    now = datetime.now(UTC).isoformat(timespec="seconds")
    return Manifest(settings.job, settings.source, settings.topic, placement, now, entries)


def _parts(
    sources: Sequence[SourceIdentity],
    settings: RunSettings,
    options: Options,
    placement: Placement,
    partitions: int,
    stop: StopFlag,
) -> tuple[Entry, ...]:
    if len(sources) != 1 or options.split is None:
        raise UsageError(f"--split cuts one file, and {settings.source} means {len(sources)}", hint="Name one of them.")
    if placement != _ROUND_ROBIN:
        raise UsageError("--split loads each part into a partition of its own", hint="Leave --placement out.")
    if options.split > partitions:
        raise UsageError(
            f"--split {options.split} wants as many partitions, and topic {settings.topic} has {partitions}",
            hint="Take a smaller number, or give the topic more partitions (kafka-topics.sh --alter --partitions N).",
        )
    from csv2kafka.fleet.cluster import Cluster  # noqa: PLC0415 - Dask: only where it has work to do
    from csv2kafka.fleet.first_pass import parts_of  # noqa: PLC0415

    _LOG.info("%s is read once, to find where rows begin", sources[0].uri)
    with closing(Cluster(options.scheduler, options.local_workers)) as cluster:
        parts = parts_of(sources[0], settings, options.split, cluster, stop)
    return tuple(Entry(number, sources[0], number, part) for number, (part, _) in enumerate(parts))


def _tell_of_others(manifest: Manifest, settings: RunSettings) -> None:
    """Files that have come since: a rerun means what was frozen, and whoever expects more should know."""
    known = {entry.source.uri for entry in manifest.entries}
    try:
        found = find(settings.source, region=settings.region, profile=settings.profile)
    except SourceError as error:  # of a file that is gone its own job tells, if it is not loaded yet
        _LOG.warning("whether files have come since cannot be said: %s", error)
        return
    new = [source.uri for source in found if source.uri not in known]
    if new:
        _LOG.warning(
            "%d files at %s are not in this fleet, frozen at %s (the first: %s): load them under another --name",
            len(new),
            settings.source,
            manifest.created,
            new[0],
        )
