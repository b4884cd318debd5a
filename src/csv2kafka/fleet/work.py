"""What a worker does: one entry of a manifest, as a job like any other, telling about once a second how far it is."""

from __future__ import annotations

import logging
import threading
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from csv2kafka import jobs, logs, shaping
from csv2kafka.errors import Csv2KafkaError, operating_error
from csv2kafka.fleet.manifest import Entry, Manifest
from csv2kafka.jobs import Notify, Parts
from csv2kafka.kafka import topic
from csv2kafka.malloc import keep_freed_memory
from csv2kafka.metrics import MetricsSink
from csv2kafka.model import Sample
from csv2kafka.pipeline import StopFlag
from csv2kafka.receipt import Receipt
from csv2kafka.schema import Schema
from csv2kafka.schema import load as load_schema
from csv2kafka.settings import RunSettings

_LOG = logging.getLogger(__name__)

# Of each fleet that this process works for, by the name of its run.
_stops: dict[str, threading.Event] = {}


@dataclass(frozen=True, slots=True)
class Assignment:
    """An entry with all that its job needs. `schema` is the file's content: workers have no such file."""

    run_id: str
    entry: Entry
    settings: RunSettings
    schema: Schema | None = None
    quiet: bool = False


def schema_of(settings: RunSettings) -> Schema | None:
    """What --schema's file says. Raises UsageError."""
    return load_schema(settings.schema_file) if settings.schema_file else None


def assignment_of(
    manifest: Manifest,
    entry: Entry,
    settings: RunSettings,
    schema: Schema | None,
    *,
    run_id: str,
    quiet: bool = False,
) -> Assignment:
    """An entry's job's options: the fleet's, under its own name, with its own file and partition."""
    own = {"source": entry.source.uri, "job_id": manifest.job_id(entry), "partition": entry.partition}
    return Assignment(run_id, entry, settings.model_copy(update={**own, "create_topic": False}), schema, quiet)


@dataclass(frozen=True, slots=True)
class Failure:
    """An error as it crosses machines; as in errors.py."""

    kind: str
    message: str
    hint: str
    exit_code: int

    @classmethod
    def of(cls, error: BaseException) -> Failure:
        known = operating_error(error)
        if known is None:
            return cls("bug", f"this is a bug: {type(error).__name__}: {error}", "please report it", 70)
        return cls(known.kind, known.message, known.hint, known.exit_code)

    def as_error(self) -> Csv2KafkaError:
        """The error again, as far as it crossed."""
        error = Csv2KafkaError(self.message, hint=self.hint)
        error.kind, error.exit_code = self.kind, self.exit_code
        return error


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of an assignment: a receipt (which may say "stopped") or a failure."""

    index: int
    worker: str
    receipt: Receipt | None = None
    failure: Failure | None = None


def load_entry(assignment: Assignment) -> Outcome:
    """Run the entry's job to its end on a worker. Raises nothing: an exception of ours would not survive the way."""
    from csv2kafka.fleet.cluster import tell, watch_current, worker_name  # noqa: PLC0415 - Dask is not there for a job by itself

    _prepare(assignment)
    entry, worker = assignment.entry, worker_name()
    stop = _Stop(_stop_of(assignment.run_id), watch_current())
    teller = _Teller(partial(tell, topic_of(assignment.run_id)), {"index": entry.index, "worker": worker})
    try:
        receipt = load(assignment, sinks=(teller,), stop=stop, notify=_LOG.info)
    except Exception as error:  # noqa: BLE001 - the one who handed it out decides
        failure = Failure.of(error)
        if failure.kind == "bug":
            _LOG.error("%s", traceback.format_exc())
        return Outcome(entry.index, worker, failure=failure)
    return Outcome(entry.index, worker, receipt)


def load(assignment: Assignment, *, sinks: Sequence[MetricsSink], stop: StopFlag, notify: Notify) -> Receipt:
    """Run the entry's job in this process. Raises what jobs.run raises."""
    parts = Parts(
        sinks=sinks,
        shape_of=partial(shaping.shape_of, assignment.settings, schema=assignment.schema),
        part=assignment.entry.part,
        pinned=assignment.entry.source,
    )
    return jobs.load(assignment.settings, parts, stop=stop, notify=notify)


def stop(run_id: str) -> None:
    """On a worker: let what it loads for this run come to a checkpoint and end; begin nothing more."""
    _stop_of(run_id).set()


def _stop_of(run_id: str) -> threading.Event:
    return _stops.setdefault(run_id, threading.Event())


@dataclass(frozen=True, slots=True)
class _Stop:
    """A StopFlag: set when the run is told to stop, or when nobody waits for it any more."""

    told: threading.Event
    is_wanted: Callable[[], bool]

    def is_set(self) -> bool:
        return self.told.is_set() or not self.is_wanted()


_is_prepared = False


def _prepare(assignment: Assignment) -> None:
    global _is_prepared  # noqa: PLW0603 - what concerns the whole process, once
    if not _is_prepared:
        _is_prepared = True
        keep_freed_memory()
        logs.set_up(assignment.settings.log_format, quiet=assignment.quiet)
        logging.getLogger(topic.__name__).setLevel(logging.ERROR)  # whoever handed this out has looked at the topics


class _Teller:
    """A sink that passes a sample's figures on."""

    def __init__(self, tell: Callable[[dict[str, object]], None], about: dict[str, object]) -> None:
        self._tell = tell
        self._about = about

    def record(self, sample: Sample) -> None:
        figures = {name: getattr(sample, name) for name in TOLD}
        self._tell({**self._about, **figures, "ack_latencies_s": list(sample.ack_latencies_s)})

    def close(self) -> None:
        """The outcome tells the rest."""


# Of a sample, what adds up over several jobs.
TOLD = (
    "rows",
    "bytes_done",
    "bytes_total",
    "rows_before",
    "bytes_before",
    "checkpoints",
    "retries",
    "bad_rows",
    "bad_rows_before",
    "takeovers",
    "foreign_records",
    "throttled_s",
)


def topic_of(run_id: str) -> str:
    """What the tellings of one run go under."""
    return f"csv2kafka-{run_id}"
