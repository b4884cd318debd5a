"""One huge file -> parts of whole rows, by a first pass that workers run over ranges of it side by side."""

from __future__ import annotations

import secrets
from contextlib import closing
from dataclasses import dataclass

from csv2kafka import ranges
from csv2kafka.errors import Csv2KafkaError, Retryable, UsageError
from csv2kafka.fleet.cluster import Cluster, Handle, WorkerLost
from csv2kafka.fleet.work import Failure
from csv2kafka.model import Dialect, Part, SourceIdentity
from csv2kafka.pipeline import StopFlag
from csv2kafka.ranges import Transition
from csv2kafka.settings import RunSettings
from csv2kafka.shaping import dialect_of, opened
from csv2kafka.sources import open_source

_TRIES = 5


@dataclass(frozen=True, slots=True)
class Range:
    """Bytes of one version of a file, for a worker to run over."""

    source: SourceIdentity
    start_byte: int
    end_byte: int
    dialect: Dialect
    region: str | None
    profile: str | None


def parts_of(
    source: SourceIdentity, settings: RunSettings, count: int, cluster: Cluster, stop: StopFlag
) -> tuple[tuple[Part, int], ...]:
    """About `count` parts of the file, each with its rows; fewer where rows are longer than that.

    Raises UsageError for a file whose bytes are not its text, Retryable when stopped, what reading raises, ClusterLost.
    """
    region, profile = settings.region, settings.profile
    one_file = settings.model_copy(update={"source": source.uri})
    with opened(one_file, region=region, profile=profile) as (_, text, header):
        if text.codec is not None or text.encoding != "utf-8":
            raise UsageError(
                f"{source.uri} cannot be split: it is {text.codec or text.encoding}",
                hint="Only plain UTF-8 can be read from its middle: unpack it, or load it as one job (csv2kafka run).",
            )
    starts = ranges.cuts(header.end_byte, source.size_bytes, count)
    dialect = dialect_of(settings)
    work = [
        Range(source, start, end, dialect, region, profile)
        for start, end in zip(starts, (*starts[1:], source.size_bytes), strict=True)
    ]
    return ranges.compose(_run(work, cluster, stop), header.end_byte)


def scan(part: Range) -> Transition | Failure:
    """On a worker: what the range comes to, from each state that it may be entered in."""
    try:
        with (
            open_source(part.source.uri, expected=part.source, region=part.region, profile=part.profile) as source,
            closing(source.read_range(part.start_byte, part.end_byte)) as chunks,
        ):
            return ranges.scan_range(chunks, part.start_byte, part.dialect)
    except Csv2KafkaError as error:
        return Failure.of(error)


def _run(work: list[Range], cluster: Cluster, stop: StopFlag) -> list[Transition]:
    found: dict[int, Transition] = {}
    run_id = secrets.token_hex(4)
    tries = dict.fromkeys(range(len(work)), 0)

    def submit(number: int) -> Handle:
        tries[number] += 1
        return cluster.submit(scan, work[number], name=f"scan-{run_id}-{number}-{tries[number]}")

    under_way = {submit(number): number for number in tries}
    while under_way:
        if stop.is_set():
            raise Retryable("stopped before the file was split", hint="Nothing was sent: run the same command again.")
        for future in cluster.first_done(under_way.keys(), 0.5):
            number = under_way.pop(future)
            try:
                result = cluster.result(future)
            except WorkerLost as error:
                result = Failure("machine", f"the workers that read it died: {error}", "see the workers' logs", 75)
            if isinstance(result, Transition):
                found[number] = result
            elif result.exit_code == Retryable.exit_code and tries[number] < _TRIES:
                under_way[submit(number)] = number
            else:
                raise result.as_error()
    return [found[number] for number in range(len(work))]
