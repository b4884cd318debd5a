"""The nouns that travel through the pipeline: frozen, with units in their names.

Only data may live here: no I/O, no clock, no import from the rest of the package.
Rows are CSV records (a quoted newline does not end one), counted without the header and without blank lines.
"""

from __future__ import annotations

import enum
import json
from dataclasses import dataclass
from typing import Any, Literal


@dataclass(frozen=True, slots=True, order=True)
class Position:
    """A place between two rows: `row` rows lie before it, the next one starts at or after `byte_offset`."""

    row: int
    byte_offset: int


@dataclass(frozen=True, slots=True)
class Part:
    """Whole rows of one file: those from byte `start_byte` to `end_byte`, the first of which is row `first_row` + 1."""

    first_row: int
    start_byte: int
    end_byte: int


@dataclass(frozen=True, slots=True)
class SourceIdentity:
    """One version of one object; two reads with equal identities see the same bytes.

    `etag` is the object's ETag on S3 and a modification stamp for a local file.
    """

    uri: str
    size_bytes: int
    etag: str
    version_id: str | None = None


@dataclass(frozen=True, slots=True)
class TextFormat:
    """What lies between an object's bytes and its text as UTF-8; by default nothing."""

    codec: str | None = None
    encoding: str = "utf-8"


@dataclass(frozen=True, slots=True)
class Restart:
    """A place where reading a compressed or transcoded object may begin anew."""

    text_byte: int
    object_byte: int


@dataclass(frozen=True, slots=True)
class Dialect:
    """How fields are told apart: different single ASCII characters, none of them a line end."""

    delimiter: str = ","
    quote: str = '"'
    escape: str | None = None  # takes the character behind it as text, as in Python's csv

    @property
    def escape_byte(self) -> int | None:
        return None if self.escape is None else ord(self.escape)


@dataclass(frozen=True, slots=True)
class Naming:
    """Where the columns' names come from, and with them where the first row is."""

    skip_lines: int = 0  # physical lines before everything else
    has_header: bool = True
    columns: tuple[str, ...] | None = None  # instead of the header's names, or of c1, c2 ... where there is none


class Kind(enum.StrEnum):
    """What a column's text must be, and how a JSON record holds it: README, "Types"."""

    STRING = "string"
    INT = "int"
    FLOAT = "float"
    DECIMAL = "decimal"
    BOOL = "bool"
    DATE = "date"
    TIMESTAMP = "timestamp"
    JSON = "json"


@dataclass(frozen=True, slots=True)
class Field:
    """What becomes of one column. `nullable` None: as without a schema, only the null value is null."""

    name: str  # in the record
    kind: Kind = Kind.STRING
    nullable: bool | None = None
    dropped: bool = False  # from the value; it is read and checked all the same, and may be a key


ValueFormat = Literal["json", "csv", "raw"]


@dataclass(frozen=True, slots=True)
class RecordShape:
    """Everything that decides what a row's record looks like: equal shapes make equal records of equal bytes."""

    columns: tuple[str, ...]  # of the file
    dialect: Dialect = Dialect()
    naming: Naming = Naming()
    null_value: str | None = None  # a field of this text is null
    fields: tuple[Field, ...] | None = None  # one for each column; None: strings under the columns' names
    key: tuple[str, ...] = ()  # columns
    value_format: ValueFormat = "json"
    file_name: str | None = None  # with it, each record has headers that say where its row was
    headers: tuple[tuple[str, str], ...] = ()  # the same on each record
    text: TextFormat = TextFormat()
    part: Part | None = None  # which of the file's rows become records; None: all

    def as_json(self) -> str:
        """The shape's fingerprint in a checkpoint. Options that are not used leave no trace in it."""
        fields = [[field.name, field.kind, field.nullable, field.dropped] for field in self.fields or ()]
        named: dict[str, Any] = {
            "format": self.value_format,
            "delimiter": self.dialect.delimiter,
            "quote": self.dialect.quote,
            "columns": self.columns,
            "escape": self.dialect.escape,
            "skip-lines": self.naming.skip_lines,
            "no-header": not self.naming.has_header,
            "null-value": self.null_value,
            "schema": fields,
            "key": self.key,
            "file.name": self.file_name,
            "headers": self.headers,
            "decompress": self.text.codec,
            "encoding": None if self.text.encoding == TextFormat().encoding else self.text.encoding,
            "part": self.part and [self.part.first_row, self.part.start_byte, self.part.end_byte],
        }
        always = ("format", "delimiter", "quote", "columns", *(("null-value",) if self.null_value == "" else ()))
        kept = {name: value for name, value in named.items() if name in always or value}
        return json.dumps(kept, ensure_ascii=False, separators=(",", ":"))


@dataclass(frozen=True, slots=True)
class Header:
    """The columns' names and where the first row may begin."""

    columns: tuple[str, ...]
    end_byte: int


@dataclass(frozen=True, slots=True)
class Block:
    """Whole rows cut from the source: `data[:size_bytes]` are theirs; what follows is padding."""

    data: bytes
    size_bytes: int
    start: Position
    rows: int

    @property
    def end(self) -> Position:
        return Position(self.start.row + self.rows, self.start.byte_offset + self.size_bytes)


@dataclass(frozen=True, slots=True)
class Batch:
    """Rows for one lane (a partition), framed and compressed: everything of a RecordBatch but its header."""

    lane: int
    rows: int
    codec: int
    records: bytes
    uncompressed_bytes: int

    @property
    def size_bytes(self) -> int:
        """Of the whole RecordBatch, its header of 61 bytes included."""
        return 61 + len(self.records)


@dataclass(frozen=True, slots=True)
class QuarantinedRow:
    """A row that cannot become a record. `text` is the row's without its line end, `reason` quotes nothing of it."""

    row: int  # from 1
    byte_offset: int
    text: bytes
    reason: str


@dataclass(frozen=True, slots=True)
class Portion:
    """Rows `start` to `end` as at most one batch for each lane. With all of them acknowledged, `end` is safe.

    Portions follow each other without a gap; one of nothing but blank lines has no rows.
    """

    start: Position
    end: Position
    batches: tuple[Batch, ...]
    text: bytes | memoryview = b""  # from `start` to `end`
    ahead_rows: tuple[int, ...] = ()  # of each lane: records behind `end` that the log has already
    bad_rows: tuple[QuarantinedRow, ...] = ()

    @property
    def rows(self) -> int:
        return self.end.row - self.start.row


@dataclass(frozen=True, slots=True)
class OwnMark:
    """The last batch (or control marker: `last_sequence` -1) of this job that lies before a log offset."""

    producer_id: int
    producer_epoch: int
    last_sequence: int


Delivery = Literal["fenced", "lease-only"]
FENCED: Delivery = "fenced"  # a newer instance shuts older ones out of the partition
LEASE_ONLY: Delivery = "lease-only"  # only the lease keeps them apart


class JobStatus(enum.StrEnum):
    IN_PROGRESS = "IN_PROGRESS"
    COMPLETED = "COMPLETED"
    FAILED = "FAILED"
    RESET = "RESET"  # forgotten on purpose: the next run may begin at row 1 although Kafka remembers the job


@dataclass(frozen=True, slots=True)
class LanePosition:
    """Where a job stands in one partition: the next offset that may hold a row of it, and what lies right before.

    `ahead_rows` of its rows lie before that offset although they come behind the checkpoint's position in the file:
    lanes are acknowledged each for itself, the position is what all of them have reached.
    """

    topic: str
    topic_id: str
    partition: int
    next_offset: int
    first_offset: int  # the log's end when the job began
    last_own: OwnMark | None = None
    ahead_rows: int = 0

    def __str__(self) -> str:
        return f"{self.topic}-{self.partition}"


@dataclass(frozen=True, slots=True)
class LogPosition:
    """Where a job stands in Kafka, in each of its lanes (the partitions that it writes to)."""

    cluster_id: str
    lanes: tuple[LanePosition, ...]
    producer_ids: tuple[int, ...] = ()  # every producer id this job ever wrote with, the newest last


@dataclass(frozen=True, slots=True)
class Quarantine:
    """Where a job's bad rows go, and how many went there before the checkpoint's position.

    `place` is a topic, whose lane is the last one then, or a file:// URI.
    """

    place: str
    rows: int = 0
    reasons: tuple[tuple[str, int], ...] = ()  # each with its rows, in the order of their first
    file_bytes: int = 0

    @property
    def is_file(self) -> bool:
        return self.place.startswith("file:")


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """What a job may rely on after a crash. Only acknowledged rows are ever counted.

    `last_line` is a row of the file, also where the job loads a part of it: `rows` counts those of the job.
    `total_sent` counts records in the topic; the difference is in quarantine.

    `byte_offset`, `source`, `record_shape` and `log` are None in a checkpoint that another program wrote with the
    plan's fields alone (last_line, total_sent).
    `record_shape` names the options that decide what a record looks like. `restart` is at or before `byte_offset`,
    None where reading may begin anywhere.
    """

    job_id: str
    last_line: int = 0
    total_sent: int = 0
    status: JobStatus = JobStatus.IN_PROGRESS
    byte_offset: int | None = None
    source: SourceIdentity | None = None
    record_shape: str | None = None
    log: LogPosition | None = None
    restart: Restart | None = None
    quarantine: Quarantine | None = None  # None: a bad row ends the job
    crc32c: int | None = None  # of the text before `byte_offset`, a part's from its start on
    rows_per_s: int | None = None  # of the run that saved it
    last_error: str | None = None  # with which the last run ended
    timestamp: str = ""  # ISO 8601, UTC; the store stamps it on every write

    @property
    def position(self) -> Position | None:
        return None if self.byte_offset is None else Position(self.last_line, self.byte_offset)

    @property
    def part(self) -> Part | None:
        """The part of the file that the job loads; None: all of it."""
        said = json.loads(self.record_shape).get("part") if self.record_shape else None
        return Part(*said) if said else None

    @property
    def rows(self) -> int:
        """Of the job, before its position."""
        part = self.part
        return self.last_line - (part.first_row if part else 0)

    @property
    def bytes(self) -> int:
        """Of the text, those of the job before its position."""
        part = self.part
        return (self.byte_offset or 0) - (part.start_byte if part else 0)


@dataclass(frozen=True, slots=True)
class Sample:
    """One look at a running job, taken about once a second. Rates and times are None until they are known."""

    rows: int  # acknowledged rows of the whole job, earlier runs included
    bytes_done: int  # of the source (of a part of it: of that), acknowledged
    bytes_total: int
    elapsed_s: float  # of this run
    rows_per_s: float
    eta_s: float | None
    ack_latency_s: float | None  # of the newest Produce request
    checkpoints: int
    retries: int
    rows_total: int | None = None  # only when the caller knows it
    bad_rows: int = 0  # of `rows`, those in quarantine
    bad_row_reasons: tuple[tuple[str, int], ...] = ()
    rows_before: int = 0  # of `rows`, those that earlier runs did; so the next two
    bytes_before: int = 0
    bad_rows_before: int = 0
    ack_latencies_s: tuple[float, ...] = ()  # of all Produce requests since the last sample
    checkpoint_age_s: float | None = None  # since the store last took it, or said that it has it
    checkpoint_lag_rows: int = 0  # acknowledged, and not in the store yet
    takeovers: int = 0
    foreign_records: int = 0
    errors: tuple[tuple[str, int], ...] = ()  # of this run, survived: kind and how often
    throttled_s: float = 0.0  # for which a broker's quota held sending back in this run, all partitions' added up
    fleet: tuple[int, int, str] | None = None  # many jobs as one: those complete, all, and what each loads (file, part)
