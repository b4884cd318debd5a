"""What the commands do: put a job together, run it, say what came of it; forget a job."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Callable, Coroutine, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from csv2kafka import failpoints, human, logs, recordbatch, shaping
from csv2kafka.checkpoints import CheckpointStore, open_store
from csv2kafka.encoder import Encoder
from csv2kafka.errors import Csv2KafkaError, JobConflict
from csv2kafka.kafka import topic
from csv2kafka.kafka.client import Client
from csv2kafka.kafka.sender import Sender
from csv2kafka.keeper import Keeper
from csv2kafka.metrics import MetricsSink
from csv2kafka.model import (
    LEASE_ONLY,
    Checkpoint,
    Header,
    JobStatus,
    Part,
    Quarantine,
    RecordShape,
    SourceIdentity,
    TextFormat,
)
from csv2kafka.outcome import already_complete, receipt_of
from csv2kafka.pipeline import Pipeline, SenderFactory, StopFlag
from csv2kafka.quarantine import SetApart, refuse_other_place
from csv2kafka.quarantine_file import QuarantineFile
from csv2kafka.receipt import Receipt
from csv2kafka.settings import RunSettings
from csv2kafka.shaping import header_of, start_of
from csv2kafka.sources import Source, open_source, refuse_changed
from csv2kafka.sources.part import as_part
from csv2kafka.sources.text import as_text
from csv2kafka.takeover import END_AT_BAD_ROWS, BadRows, Job
from csv2kafka.threads import run_on_a_loop

_LOG = logging.getLogger(__name__)
_WEAKER_PROMISE = (
    "delivery is lease-only: exactly once through crashes and retries, but nothing shuts out a dead or paused instance "
    "of this job. A request of such a one that reaches the broker after this start repeats rows"
)
# Of a dead-letter topic we create: a stray quote makes long rows.
DEAD_LETTER_SETTINGS = {"max.message.bytes": str(8 << 20)}

Notify = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Parts:
    """What a run is made of, where the caller brings its own: `processor` and tests do."""

    open_source: Callable[..., Source] = open_source
    sender_factory: SenderFactory = Sender
    store: CheckpointStore | None = None
    store_is_only_authority: bool = False
    rows_total: int | None = None
    sinks: Sequence[MetricsSink] = ()
    shape_of: Callable[[Header, TextFormat, str], RecordShape] | None = None  # columns, text, the source's name
    part: Part | None = None  # of the source, on the boundaries of rows: all that is loaded
    pinned: SourceIdentity | None = None  # the version to load, also by a new job; None: the newest then


def run(settings: RunSettings, *, sinks: Sequence[MetricsSink] = (), stop: StopFlag, notify: Notify) -> Receipt:
    """Load the file, from where the job stands. Blocks until done or told to stop.

    The receipt's status is "complete", "already complete" or "stopped". Raises Csv2KafkaError for everything that
    an operator can meet; every row acknowledged until then is safe.
    """
    return load(settings, Parts(sinks=sinks), stop=stop, notify=notify)


def load(settings: RunSettings, parts: Parts, *, stop: StopFlag, notify: Notify) -> Receipt:
    """`run` with parts of the caller's own."""
    job_id = settings.job
    logs.whereabouts.clear()
    logs.whereabouts["job"] = job_id
    _LOG.debug("options: %s", settings.given_words())
    store = parts.store or open_store(settings.checkpoint_url, job_id, region=settings.region, profile=settings.profile)
    found = store.acquire(job_id)
    held_s = time.monotonic()
    try:
        failpoints.reach("lease_taken")
        where = settings.checkpoint_url or "the default store, a file of this user"
        _LOG.debug("lease taken in %s; its checkpoint: %s", where, _words(found))
        if found is not None:
            _refuse_other_part(found, parts.part)
        with parts.open_source(
            settings.source,
            expected=(found.source if found else None) or parts.pinned,
            region=settings.region,
            profile=settings.profile,
        ) as raw:
            if parts.pinned is not None:
                refuse_changed(parts.pinned, raw.identity)
            if found is not None and found.status == JobStatus.COMPLETED:
                return already_complete(found, settings, raw)
            restart = found.restart if found else None
            source, text = as_text(raw, codec=settings.decompress, encoding=settings.encoding, restart=restart)
            source = as_part(source, text, parts.part)
            with source, _metrics(settings, job_id) as own_sinks:
                run = _Run(settings, parts, job_id, store, source, text, found, held_s, (*parts.sinks, *own_sinks))
                return _run_to_end(_load(run, stop, notify))
    finally:
        _release(store)


def _release(store: CheckpointStore) -> None:
    """What the run came to counts, also where the store cannot be told any more: the lease then runs out by itself."""
    try:
        store.release()
    except Csv2KafkaError as error:
        _LOG.warning("the lease could not be given up: %s", error)


def _run_to_end(load: Coroutine[Any, Any, Receipt]) -> Receipt:
    """On an event loop of its own; in a thread of its own where the caller (a notebook) has one running here."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return run_on_a_loop(load)
    with ThreadPoolExecutor(1, "csv2kafka-loop") as own_thread:
        return own_thread.submit(run_on_a_loop, load).result()


@contextmanager
def _metrics(settings: RunSettings, job_id: str) -> Iterator[Sequence[MetricsSink]]:
    if not settings.enable_metrics:
        yield ()
        return
    from csv2kafka.metrics.cloudwatch import MetricsEmitter  # noqa: PLC0415 - boto3 takes its time

    emitter = MetricsEmitter(settings.metrics_namespace, job_id, region=settings.region, profile=settings.profile)
    try:
        yield (emitter,)
    except Csv2KafkaError:
        emitter.emit_error()
        raise
    finally:
        emitter.close()


@dataclass(frozen=True, slots=True)
class _Run:
    settings: RunSettings
    parts: Parts
    job_id: str
    store: CheckpointStore
    source: Source
    text: TextFormat
    found: Checkpoint | None
    held_s: float  # when the lease was taken, monotonic
    sinks: Sequence[MetricsSink]


async def _load(run: _Run, stop: StopFlag, notify: Notify) -> Receipt:
    settings, found, source = run.settings, run.found, run.source
    header = await asyncio.to_thread(header_of, settings, source, run.text.encoding)
    shape_of = run.parts.shape_of or partial(shaping.shape_of, settings)
    shape = replace(shape_of(header, run.text, source.identity.uri), part=run.parts.part)
    start = start_of(shape, header)
    if found is not None:
        _refuse_other_shape(found, shape.as_json())
        refuse_other_place(found.quarantine, settings.bad_rows_place)
    if settings.delivery == LEASE_ONLY:
        logs.warn_once(_LOG, _WEAKER_PROMISE)
    patience_s = settings.kafka.delivery_timeout_s
    async with Keeper(run.store, found, patience_s=patience_s) as keeper, Client(settings.kafka) as client:
        targets = await topic.prepare(
            client,
            settings.topic,
            settings.partition,
            create=settings.create_topic,
            has_begun=found is not None and found.log is not None,
            spread=bool(shape.key),
        )
        dead_letters = await _dead_letters(run, client)
        _tell_shape(settings, shape, targets[0])
        job = Job(
            run.job_id,
            source,
            start,
            Encoder(
                shape,
                recordbatch.CODECS[settings.compression],
                targets[0].max_message_bytes,
                len(targets),
                _set_apart(run, dead_letters),
            ),
            keeper,
            client,
            (*targets, *dead_letters),
            _bad_rows(run),
            settings.delivery,
            accept_new_producer_id=settings.accept_new_producer_id,
            store_is_only_authority=run.parts.store_is_only_authority,
        )
        pipeline = Pipeline(
            job,
            found,
            sinks=run.sinks,
            stop=stop,
            began_s=run.held_s,
            checkpoint_interval_rows=settings.checkpoint_interval_rows,
            max_bytes_per_s=settings.max_bytes_per_s,
            rows_total=run.parts.rows_total,
            sender_factory=run.parts.sender_factory,
        )
        begin = f"starting at row {start.row + 1:,}"
        if found is not None and found.last_line > start.row:
            begin = f"going on behind row {found.last_line:,}"
        notify(f"job {run.job_id}: {begin}, {source.identity.uri} -> {_place(targets)}")
        finished = await pipeline.run()
    return receipt_of(pipeline, job, "complete" if finished else "stopped")


async def _dead_letters(run: _Run, client: Client) -> tuple[topic.Target, ...]:
    """The dead-letter topic's partition, if bad rows go to one."""
    place = run.settings.bad_rows_topic
    if place is None:
        return ()
    return await topic.prepare(
        client,
        place,
        0,
        create=run.settings.create_topic,
        has_begun=run.found is not None and run.found.quarantine is not None,
        new_settings=DEAD_LETTER_SETTINGS,
    )


def _set_apart(run: _Run, dead_letters: Sequence[topic.Target]) -> SetApart | None:
    if run.settings.bad_rows_place is None:
        return None
    return SetApart(run.source.identity, dead_letters[0].max_message_bytes if dead_letters else None)


def _bad_rows(run: _Run) -> BadRows:
    place = run.settings.bad_rows_place
    if place is None:
        return END_AT_BAD_ROWS
    quarantine = Quarantine(place)
    file = QuarantineFile(place, run.source.identity) if quarantine.is_file else None
    return BadRows(quarantine, file, run.settings.tolerance)


def reset(checkpoint_url: str | None, job_id: str, region: str | None = None, profile: str | None = None) -> str:
    """Forget a job on purpose: its next run begins at row 1. Returns a sentence for the user."""
    open_store(checkpoint_url, job_id, region=region, profile=profile).forget(job_id)
    return f"job {job_id} is forgotten: its next run begins at row 1 (what it sent stays in the topic)"


def _refuse_other_part(found: Checkpoint, part: Part | None) -> None:
    """Also of a complete job, which would be taken for that of the other part."""
    if found.record_shape is not None and found.part != part:
        raise JobConflict(
            f"this job loads {human.part(found.part)} of the file, not {human.part(part)}",
            hint="Each part is a job of its own: give the old one again, or load this one under a new --job-id.",
        )


def _tell_shape(settings: RunSettings, shape: RecordShape, target: topic.Target) -> None:
    _LOG.debug(
        "records: %s of %d columns, key %s, %s; batches of at most %s",
        shape.value_format,
        len(shape.columns),
        ",".join(shape.key) or "none",
        settings.compression,
        human.size(target.max_message_bytes),
    )


def _words(found: Checkpoint | None) -> str:
    if found is None:
        return "none, the job is new"
    return f"{found.status}, row {found.last_line:,}, byte {found.byte_offset or 0:,}, saved {found.timestamp}"


def _refuse_other_shape(found: Checkpoint, shape: str) -> None:
    if found.record_shape is None or found.record_shape == shape:
        return
    then, now = json.loads(found.record_shape), json.loads(shape)
    names = [name for name in {**now, **then} if then.get(name) != now.get(name)]
    changes = [f"{name}: {then.get(name)!r} then, {now.get(name)!r} now" for name in names]
    raise JobConflict(
        f"this job began with other options for its records ({'; '.join(changes)})",
        hint="Records of one job must be alike: give the old options again, or load under a new --job-id.",
    )


def _place(targets: Sequence[topic.Target]) -> str:
    if len(targets) == 1:
        return str(targets[0].partition)
    return f"{targets[0].partition.topic} ({len(targets)} partitions)"
