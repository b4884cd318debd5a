"""A fleet from its frozen manifest to its receipt: hand out what is not loaded yet, say what came of it."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from functools import partial
from typing import Any

from csv2kafka import human
from csv2kafka.errors import Csv2KafkaError, JobConflict
from csv2kafka.fleet import report
from csv2kafka.fleet.cluster import Cluster
from csv2kafka.fleet.dispatch import Dispatcher, Fleet
from csv2kafka.fleet.freezing import Options, checkpoints_of, freeze, look_at_topic, store_of
from csv2kafka.fleet.manifest import Entry, Manifest
from csv2kafka.fleet.overview import Overview
from csv2kafka.fleet.placement import Queue
from csv2kafka.fleet.report import FileReceipt, FleetReceipt
from csv2kafka.fleet.work import Outcome, topic_of
from csv2kafka.jobs import Notify
from csv2kafka.kafka.client import TopicView
from csv2kafka.metrics import MetricsSink
from csv2kafka.model import Checkpoint, JobStatus
from csv2kafka.pipeline import StopFlag
from csv2kafka.settings import RunSettings
from csv2kafka.threads import run_on_a_loop

Attach = Callable[[Callable[[], dict[str, Any]]], None]  # given once what tells of the files, for who shows it


def run(
    settings: RunSettings,
    options: Options,
    *,
    sinks: Sequence[MetricsSink],
    stop: StopFlag,
    notify: Notify,
    attach: Attach | None = None,
) -> FleetReceipt:
    """Load all that is not loaded yet. Raises Csv2KafkaError where nothing can be begun, or the scheduler is lost."""
    began_s = time.monotonic()
    manifest = freeze(settings, options, stop)
    view = run_on_a_loop(look_at_topic(settings, manifest.placement))
    _refuse_lost_partitions(manifest, view)
    store = store_of(settings)
    checkpoints = checkpoints_of(store, manifest)
    done = {index for index, found in checkpoints.items() if found.status == JobStatus.COMPLETED}
    begun = {index for index, found in checkpoints.items() if index not in done and found.rows}
    overview = Overview(manifest, checkpoints)
    outcomes: dict[int, Outcome] = {}
    if len(done) < len(manifest.entries):
        queue = Queue(manifest, done, begun=begun, leaders=view.leaders, per_broker=options.per_broker)
        run_id = secrets.token_hex(4)
        fleet = Fleet(manifest, settings, run_id, is_local=options.scheduler is None)
        with closing(Cluster(options.scheduler, options.local_workers)) as cluster:
            cluster.listen(topic_of(run_id), overview.told)
            count = human.plural(len(manifest.entries), manifest.noun)
            so_far = f" ({len(done):,} of them complete)" if done else ""
            notify(f"fleet {manifest.name}: {count}{so_far}, {manifest.source} -> {manifest.topic}")
            notify(f"Dask's dashboard: {cluster.dashboard_url}")
            if attach is not None:
                attach(partial(overview.details, cluster.dashboard_url))
            outcomes = Dispatcher(fleet, cluster, queue, overview, sinks=sinks, stop=stop).run()
        with suppress(Csv2KafkaError):  # then the receipt knows less of what failed or was cut short
            checkpoints = checkpoints_of(store, manifest)
    return _receipt(manifest, overview, checkpoints, outcomes, stop, began_s)


def _refuse_lost_partitions(manifest: Manifest, view: TopicView) -> None:
    lost = {entry.partition for entry in manifest.entries} - view.leaders.keys()
    if lost:
        raise JobConflict(
            f"topic {manifest.topic} has no partition {min(lost)}, into which fleet {manifest.name} was to load",
            hint="It was made anew with fewer. Forget the fleet (csv2kafka reset --fleet NAME), or take a new --name.",
        )


def _receipt(
    manifest: Manifest,
    overview: Overview,
    checkpoints: dict[int, Checkpoint],
    outcomes: dict[int, Outcome],
    stop: StopFlag,
    began_s: float,
) -> FleetReceipt:
    files = tuple(_file(manifest, overview, entry, checkpoints, outcomes) for entry in manifest.entries)
    sample = overview.sample()
    rows_this_run = sample.rows - sample.rows_before
    statuses = {file.status for file in files}
    status = report.FAILED
    if statuses == {report.COMPLETE}:
        status = report.COMPLETE
    elif stop.is_set() or report.FAILED not in statuses:
        status = "stopped"
    duration_s = time.monotonic() - began_s
    return FleetReceipt(
        manifest.name,
        manifest.source,
        manifest.topic,
        manifest.placement,
        status,
        files,
        sample.rows,
        rows_this_run,
        sample.bytes_done,
        sum(file.bad_rows for file in files),
        duration_s,
        rows_this_run / max(1e-3, duration_s),
    )


def _file(
    manifest: Manifest,
    overview: Overview,
    entry: Entry,
    checkpoints: dict[int, Checkpoint],
    outcomes: dict[int, Outcome],
) -> FileReceipt:
    item, outcome, found = overview.items[entry.index], outcomes.get(entry.index), checkpoints.get(entry.index)
    about = {"worker": item.worker, "attempts": item.attempts, "error": item.error}
    if outcome is not None and outcome.receipt is not None:
        about |= report.of_receipt(outcome.receipt)
    elif found is not None:
        about |= report.of_checkpoint(found)
    if outcome is not None and outcome.failure is not None:
        about |= {
            "error": outcome.failure.message,
            "hint": outcome.failure.hint,
            "exit_code": outcome.failure.exit_code,
        }
    state = "stopped" if item.state == "running" else item.state
    return report.of_entry(manifest, entry, state, **about)
