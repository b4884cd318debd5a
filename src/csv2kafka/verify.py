"""`csv2kafka verify`: what to compare for a job, or for a file and a topic; and what is said of the outcome."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
from typing import Any

from csv2kafka import human, recordbatch, shaping
from csv2kafka.encoder import Encoder
from csv2kafka.errors import JobConflict
from csv2kafka.kafka import tail, topic
from csv2kafka.kafka.client import Client, Partition
from csv2kafka.kafka_settings import KafkaSettings
from csv2kafka.lookup import job_of
from csv2kafka.metrics import MetricsSink
from csv2kafka.model import Checkpoint, JobStatus, LanePosition, Naming, Position, RecordShape
from csv2kafka.outcome import dead_letters_of, lanes_of
from csv2kafka.quarantine import SetApart
from csv2kafka.readback import Lane, Verification, compare
from csv2kafka.settings import RunSettings, StoreSettings
from csv2kafka.sources import Source, open_source
from csv2kafka.sources.part import as_part
from csv2kafka.sources.sniff import NONE
from csv2kafka.sources.text import as_text
from csv2kafka.splitter import read_header
from csv2kafka.threads import run_on_a_loop

_NO_LIMIT_BYTES = 1 << 40


def verify_job(store: StoreSettings, job_id: str, kafka: KafkaSettings, sinks: Sequence[MetricsSink]) -> Verification:
    """Compare a complete job's file with what it wrote, dead letters included; what others wrote is left out.

    Raises JobConflict for a job that is not there or not complete, and what opening and reading raise.
    """
    found = job_of(store, job_id)
    if found.status != JobStatus.COMPLETED or found.log is None or found.source is None:
        raise JobConflict(f"job {job_id} is not complete", hint="Finish it first: its own command again.")
    shape = shaping.shape_from(found.record_shape or "")
    with _opened(found, shape, store) as source:
        return run_on_a_loop(_verify_job(found, shape, source, kafka, sinks))


async def _verify_job(
    found: Checkpoint, shape: RecordShape, source: Source, kafka: KafkaSettings, sinks: Sequence[MetricsSink]
) -> Verification:
    dead_letters = dead_letters_of(found)
    lanes = lanes_of(found)
    apart = None
    if found.quarantine is not None:
        apart = SetApart(source.identity, _NO_LIMIT_BYTES if dead_letters else None)
    start = _start(source, shape)
    encoder = Encoder(shape, recordbatch.CODECS["none"], _NO_LIMIT_BYTES, len(lanes), apart)
    own_ids = found.log.producer_ids if found.log else ()
    async with Client(kafka) as client:
        read = [_own_lane(lane, own_ids) for lane in (*lanes, *((dead_letters,) if dead_letters else ()))]
        for partition in {lane.partition.topic: lane.partition for lane in read}.values():
            await client.confirm(partition)
        return await compare(source, start, encoder, client, read, sinks)


def _own_lane(lane: LanePosition, own_ids: tuple[int, ...]) -> Lane:
    return Lane(Partition(lane.topic, lane.topic_id, lane.partition), lane.first_offset, lane.next_offset, own_ids)


def verify_topic(settings: RunSettings, sinks: Sequence[MetricsSink]) -> Verification:
    """Compare a file with all that a topic (or the chosen partition) holds, whoever wrote it."""
    with shaping.opened(settings, region=settings.region, profile=settings.profile) as (source, text, header):
        shape = shaping.shape_of(settings, header, text, source.identity.uri)
        start = shaping.start_of(shape, header)
        return run_on_a_loop(_verify_topic(settings, shape, start, source, sinks))


async def _verify_topic(
    settings: RunSettings, shape: RecordShape, start: Position, source: Source, sinks: Sequence[MetricsSink]
) -> Verification:
    async with Client(settings.kafka) as client:
        find = partial(topic.prepare, client, create=False)
        targets = await find(settings.topic, settings.partition, spread=bool(shape.key))
        dead_letters: tuple[topic.Target, ...] = ()
        apart = None
        if settings.bad_rows_topic is not None:
            dead_letters = await find(settings.bad_rows_topic, 0)
        if settings.bad_rows_place is not None:
            apart = SetApart(source.identity, _NO_LIMIT_BYTES if dead_letters else None)
        lanes = [
            Lane(target.partition, *await tail.log_range(client, target.partition), None)
            for target in (*targets, *dead_letters)
        ]
        encoder = Encoder(shape, recordbatch.CODECS["none"], _NO_LIMIT_BYTES, len(targets), apart)
        return await compare(source, start, encoder, client, lanes, sinks)


@contextmanager
def _opened(found: Checkpoint, shape: RecordShape, store: StoreSettings) -> Iterator[Source]:
    """The very version of the file that the job loaded, or its part of it, as text."""
    if found.source is None:
        raise AssertionError("a complete job has a source")
    with open_source(found.source.uri, expected=found.source, region=store.region, profile=store.profile) as raw:
        source, text = as_text(raw, codec=shape.text.codec or NONE, encoding=shape.text.encoding)
        with as_part(source, text, shape.part) as source:
            yield source


def _start(source: Source, shape: RecordShape) -> Position:
    naming = Naming(shape.naming.skip_lines, shape.naming.has_header, shape.columns)
    header = read_header(source.read_from(0), shape.dialect, naming, encoding=shape.text.encoding)
    return shaping.start_of(shape, header)


def as_dict(verification: Verification) -> dict[str, Any]:
    return {"status": "exact" if verification.is_exact else "different", **asdict(verification)}


def as_words(verification: Verification) -> str:
    """A headline, what was compared, and each difference; without a newline at the end."""
    source, where = verification.source, ", ".join(verification.partitions)
    if verification.is_exact:
        rows = f"all {human.plural(verification.rows, 'row')}"
        if verification.part is not None:
            rows = human.rows_of(verification.part, verification.rows)
        headline = f"exact: {rows} of {source.uri} are in {where}, each once, in order"
    else:
        held = "" if verification.part is None else f" in {human.part(verification.part)}"
        headline = f"DIFFERENT: {where} is not what {source.uri} holds{held}"
    version = f", version {source.version_id}" if source.version_id else ""
    rate = verification.rows / verification.duration_s if verification.duration_s else 0.0
    lines = {
        "identity": f"etag {source.etag}{version}",
        "compared": f"{human.plural(verification.records, 'record')}, byte for byte",
        "bytes": f"{verification.bytes:,}, CRC32C {verification.crc32c}",
        "duration": f"{human.duration(verification.duration_s)}, {human.short(rate)} rows/s",
    }
    table = [f"  {name:<10}  {value}" for name, value in lines.items()]
    return "\n".join([headline, "", *table, *(f"  {difference}" for difference in verification.differences)])
