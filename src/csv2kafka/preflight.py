"""`csv2kafka plan`: what a load would be, found out by a few ranged reads and questions; nothing is sent or created."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from typing import Any

from csv2kafka import human, recordbatch, sampling, shaping
from csv2kafka.checkpoints import open_store
from csv2kafka.encoder import Encoded, Encoder
from csv2kafka.errors import BadData, Csv2KafkaError
from csv2kafka.kafka import outlook
from csv2kafka.kafka.client import Client
from csv2kafka.kafka.outlook import Finding, TopicOutlook
from csv2kafka.model import (
    FENCED,
    Checkpoint,
    Header,
    JobStatus,
    Position,
    QuarantinedRow,
    RecordShape,
    SourceIdentity,
    TextFormat,
)
from csv2kafka.quarantine import SetApart
from csv2kafka.settings import RunSettings
from csv2kafka.sources import Source
from csv2kafka.splitter import split
from csv2kafka.threads import run_on_a_loop

_SHOWN_RECORDS = 3
_DEFAULT_BATCH_BYTES = 1_048_588  # of a topic that is not there yet
_MOST_TRIED_BYTES = 8 << 20
_ENCODERS = 2
_UNKNOWN = "not known before all of it is read"


@dataclass(frozen=True, slots=True)
class Plan:
    """`rows_error`: by how many `rows` may be wrong, 95 % sure. Sizes in bytes, durations in seconds; None: not known.

    `duration_s` is what reading and encoding take on this machine, and max_bytes_per_s allows, at least: how fast the
    brokers are shows only when they are sent something.
    """

    job_id: str
    source: SourceIdentity
    text: TextFormat
    shape: RecordShape
    records: tuple[str, ...]
    rows: int | None
    rows_error: int | None
    topic_bytes: int | None
    duration_s: float | None
    topic: TopicOutlook
    dead_letters: TopicOutlook | None  # None: bad rows go to no topic
    resumes_at_row: int | None
    findings: tuple[Finding, ...]

    is_complete: bool = False  # by earlier runs

    @property
    def exit_code(self) -> int:
        """0: ready."""
        return next((finding.exit_code for finding in self.findings if finding.exit_code is not None), 0)


@dataclass(frozen=True, slots=True)
class _Trial:
    """The file's first rows, really read and encoded."""

    records: tuple[str, ...]
    bytes: int
    packed_bytes: int
    duration_s: float
    findings: tuple[Finding, ...]


def plan(settings: RunSettings) -> Plan:
    """Raises what opening and reading the source, and connecting, raise."""
    job_id = settings.job
    with shaping.opened(settings, region=settings.region, profile=settings.profile) as (source, text, header):
        shape = shaping.shape_of(settings, header, text, source.identity.uri)
        producer, topic, dead_letters = run_on_a_loop(_cluster(settings, job_id, spread=bool(shape.key)))
        size_bytes = source.identity.size_bytes if text == TextFormat() else None
        samples = sampling.sample(source, header, size_bytes, shape.dialect)
        trial = _try(source, header, shape, settings, topic, dead_letters)
    rows = samples.rows()
    text_bytes = samples.text_bytes
    topic_bytes = duration_s = None
    if text_bytes is not None and trial.bytes:
        topic_bytes = round(text_bytes * trial.packed_bytes / trial.bytes)
        duration_s = text_bytes * trial.duration_s / trial.bytes
        if settings.max_bytes_per_s is not None:
            duration_s = max(duration_s, topic_bytes / settings.max_bytes_per_s)
    stands = _checkpoint(settings, job_id)
    findings = [
        *_standing(stands),
        *producer,
        *topic.findings,
        *outlook.too_small(topic, topic_bytes, duration_s),
        *(dead_letters.findings if dead_letters else ()),
        *(outlook.too_small(dead_letters, None, duration_s) if dead_letters else ()),
        *trial.findings,
    ]
    return Plan(
        job_id,
        source.identity,
        text,
        shape,
        trial.records,
        rows[0] if rows else None,
        rows[1] if rows else None,
        topic_bytes,
        duration_s,
        topic,
        dead_letters,
        stands.last_line if isinstance(stands, Checkpoint) else None,
        tuple(findings),
        isinstance(stands, Checkpoint) and stands.status == JobStatus.COMPLETED,
    )


async def _cluster(
    settings: RunSettings, job_id: str, *, spread: bool
) -> tuple[list[Finding], TopicOutlook, TopicOutlook | None]:
    """(what keeps us from writing at all, the topic, the topic for bad rows)"""
    name, create, place = settings.topic, settings.create_topic, settings.bad_rows_topic
    async with Client(settings.kafka) as client:
        producer = await outlook.look_at_producer(client, name, job_id, fenced=settings.delivery == FENCED)
        topic = await outlook.look(client, name, settings.partition, create=create, spread=spread)
        if place is None:
            return producer, topic, None
        return producer, topic, await outlook.look(client, place, 0, create=create, is_for_bad_rows=True)


def _try(
    source: Source,
    header: Header,
    shape: RecordShape,
    settings: RunSettings,
    topic: TopicOutlook,
    dead_letters: TopicOutlook | None,
) -> _Trial:
    limit_bytes = int(topic.settings.get("max.message.bytes", _DEFAULT_BATCH_BYTES))
    lanes = len(topic.partitions) or 1
    dead_letter_bytes = dead_letters.settings.get("max.message.bytes") if dead_letters else None
    apart = SetApart(source.identity, int(dead_letter_bytes) if dead_letter_bytes else None)
    encoder = Encoder(shape, recordbatch.CODECS[settings.compression], limit_bytes, lanes, apart)
    plain = Encoder(shape, recordbatch.CODECS["none"], 1 << 40, lanes, SetApart(source.identity))
    began_s = time.perf_counter()
    tried_bytes = packed_bytes = 0
    records: list[str] = []
    bad_rows: list[QuarantinedRow] = []
    findings: list[Finding] = []
    start = end = Position(0, header.end_byte)
    with closing(source.read_from(start.byte_offset)) as chunks:
        for block in split(chunks, start, shape.dialect, lambda: encoder.block_bytes):
            if not records:
                records = _first_records(plain.encode(block))
                began_s = time.perf_counter()  # by now all is compiled
            encoded = encoder.encode(block)
            for portion in encoded.portions:
                packed_bytes += sum(batch.size_bytes for batch in portion.batches if batch.lane < lanes)
                bad_rows += portion.bad_rows
            tried_bytes += block.size_bytes
            end = block.end
            if encoded.bad is not None:
                findings.append(Finding(encoded.bad.message, encoded.bad.hint, encoded.bad.exit_code))
            if encoded.bad is not None or tried_bytes >= _MOST_TRIED_BYTES:
                break
    duration_s = (time.perf_counter() - began_s) / _ENCODERS
    if bad_rows:
        findings.append(_bad(bad_rows, end.row, settings))
    return _Trial(tuple(records), tried_bytes, packed_bytes, duration_s, tuple(findings))


def _first_records(encoded: Encoded) -> list[str]:
    shown: list[str] = []
    for portion in encoded.portions:
        for batch in portion.batches:
            at = 0
            while at < len(batch.records) and len(shown) < _SHOWN_RECORDS:
                body, _, at = recordbatch.record_at(batch.records, at)
                shown.append((recordbatch.value_of(body) or b"").decode("utf-8", "replace"))
    return shown


def _bad(bad_rows: Sequence[QuarantinedRow], rows: int, settings: RunSettings) -> Finding:
    first, is_set_apart = bad_rows[0], settings.bad_rows == "quarantine"
    return Finding(
        f"{len(bad_rows)} of the first {rows:,} rows cannot become records; row {first.row} {first.reason}",
        f"They would be set apart in {settings.bad_rows_place}."
        if is_set_apart
        else "Set such rows apart with --bad-rows quarantine; if all look wrong, see --delimiter, --quote, --encoding.",
        None if is_set_apart else BadData.exit_code,
    )


def _checkpoint(settings: RunSettings, job_id: str) -> Checkpoint | Finding | None:
    """What is known of the job already; a Finding where its store cannot be asked."""
    try:
        store = open_store(settings.checkpoint_url, job_id, region=settings.region, profile=settings.profile)
        found = store.load(job_id)
    except Csv2KafkaError as error:
        return Finding(error.message, error.hint, error.exit_code)
    return found


def _standing(found: Checkpoint | Finding | None) -> list[Finding]:
    if isinstance(found, Finding):
        return [found]
    if found is None or found.status != JobStatus.COMPLETED:
        return []
    return [Finding(f"job {found.job_id} is complete already", "To load the file again: another --job-id.")]


def as_dict(found: Plan) -> dict[str, Any]:
    status = "ready" if found.exit_code == 0 else "not ready"
    return {"status": status, "exit_code": found.exit_code, **asdict(found)}


def as_words(found: Plan) -> str:
    """What there is, what would be sent, what to mend; without a newline at the end."""
    source, shape, topic = found.source, found.shape, found.topic
    version = f", version {source.version_id}" if source.version_id else ""
    lines = {
        "job": found.job_id + (_begins(found)),
        "source": f"{source.uri}, {human.size(source.size_bytes)}",
        "identity": f"etag {source.etag}{version}",
        "text": ", ".join(filter(None, (found.text.codec, found.text.encoding))),
        "dialect": f"delimiter {shape.dialect.delimiter!r}, quote {shape.dialect.quote!r}",
        "columns": f"{len(shape.columns)}: {', '.join(shape.columns[:12])}{' ...' if len(shape.columns) > 12 else ''}",
        "rows": _rows(found),
        "topic": _topic_words(topic),
        **({"bad rows": _topic_words(found.dead_letters)} if found.dead_letters else {}),
        "in Kafka": "not known before all of it is read"
        if found.topic_bytes is None
        else human.size(found.topic_bytes),
        "duration": _duration(found),
    }
    table = [f"  {name:<10}  {value}" for name, value in lines.items()]
    records = [f"    {record}" for record in found.records]
    return "\n".join([_headline(found), "", *table, "", "  first records", *records, *_findings(found.findings)])


def _begins(found: Plan) -> str:
    if found.is_complete or not found.resumes_at_row:
        return ""
    return f" (would go on behind row {found.resumes_at_row:,})"


def _headline(found: Plan) -> str:
    if found.exit_code:
        return "NOT ready"
    return "complete already: nothing is left to send" if found.is_complete else "ready"


def _findings(findings: Sequence[Finding]) -> list[str]:
    words = [""] if findings else []
    for finding in findings:
        words += [f"  {'must' if finding.exit_code is not None else 'note'}  {finding.what}", f"        {finding.fix}"]
    return words


def _rows(found: Plan) -> str:
    if found.rows is None or found.rows_error is None:
        return _UNKNOWN
    if not found.rows_error:
        return f"{found.rows:,}"
    return f"about {found.rows:,} (95 % sure to {found.rows_error:,})"


def _topic_words(topic: TopicOutlook) -> str:
    if not topic.exists:
        made = "" if topic.findings else ": a run would create it, with one partition"
        return f"{topic.name} (not there, or not to be seen{made})"
    where = f"partition {topic.partitions[0]}" if len(topic.partitions) == 1 else f"{len(topic.partitions)} partitions"
    return f"{topic.name}, {where}, {human.plural(topic.replicas or 0, 'replica')}, {topic.records:,} offsets in use"


def _duration(found: Plan) -> str:
    if found.duration_s is None:
        return _UNKNOWN
    return f"at least {human.duration(found.duration_s)} (what is done here; how fast the brokers are is not in it)"
