"""Bad rows set apart: what a record of one looks like in a dead-letter topic and in a file, and how many are borne.

Pure. Where they go is the sender's and quarantine_file.py's business; which rows are bad is badrow.py's.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from csv2kafka import recordbatch
from csv2kafka.errors import BadData, BadRow, JobConflict
from csv2kafka.model import Batch, Quarantine, QuarantinedRow, SourceIdentity

_FILL = 0.9  # of a batch, by uncompressed bytes: what cannot be compressed grows a little
_NO_LIMIT = 1 << 62
_FRAME_BYTES = 120  # at most, around the value: names of headers, numbers, lengths
_NUMBERS = frozenset({"csv.row", "file.offset", "file.length"})
_MOST_REASONS = 50  # a checkpoint stays small
_OTHER_REASONS = "other reasons"
_SHARE_FROM_ROWS = 1_000  # a share of fewer rows says little


@dataclass(frozen=True, slots=True)
class SetApart:
    """How bad rows of a source are set apart: in batches of so many bytes at most, or (None) for a file."""

    source: SourceIdentity
    max_batch_bytes: int | None = None

    @property
    def room_bytes(self) -> int:
        """How much the rows of one portion may take by `size_bytes`. The first of them always has room."""
        return _NO_LIMIT if self.max_batch_bytes is None else int(_FILL * self.max_batch_bytes)

    def size_bytes(self, row: QuarantinedRow) -> int:
        """Of the row's record, uncompressed, or a little more."""
        values = sum(len(value) for _, value in _headers(row, self.source))
        return len(row.text) + values + _FRAME_BYTES

    def batch_of(self, rows: Sequence[QuarantinedRow], lane: int, codec: int) -> Batch:
        """The rows as records: the row's text as value, where it was and what is wrong with it as headers."""
        records = b"".join(
            recordbatch.frame(number, row.text, _headers(row, self.source)) for number, row in enumerate(rows)
        )
        return Batch(lane, len(rows), codec, recordbatch.compress(codec, memoryview(records)), len(records))

    def refusal(self, bad: BadRow, row: QuarantinedRow, codec: int) -> BadRow | None:
        """What to say where the row, even alone in its batch, is more than the topic takes."""
        batch = self.batch_of((row,), 0, codec)
        if self.max_batch_bytes is None or batch.size_bytes <= self.max_batch_bytes:
            return None
        return BadRow(
            bad.start,
            bad.end_byte,
            f"{bad.reason}, and its batch of {batch.size_bytes} bytes is more than the dead-letter topic's "
            f"max.message.bytes ({self.max_batch_bytes})",
            hint=f"Raise that topic's max.message.bytes to {batch.size_bytes} or more and run the same command again.",
        )


def line_of(row: QuarantinedRow, source: SourceIdentity) -> bytes:
    """The row as a line of JSON."""
    return line_of_record(row.text, dict(_headers(row, source)))


def line_of_record(value: bytes, headers: Mapping[str, bytes]) -> bytes:
    """The record of a bad row as a line of JSON under the headers' names; a value that is not UTF-8 in base64."""
    fields = {name: int(text) if name in _NUMBERS else text.decode() for name, text in headers.items()}
    try:
        said = {"value": value.decode()}
    except UnicodeDecodeError:
        said = {"value.base64": base64.b64encode(value).decode()}
    return json.dumps({**fields, **said}, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"


def text_of_line(line: bytes) -> bytes:
    """The row's text out of what `line_of` made. Raises ValueError for anything else."""
    fields = json.loads(line)
    try:
        return base64.b64decode(fields["value.base64"]) if "value.base64" in fields else fields["value"].encode()
    except (KeyError, TypeError, AttributeError):
        raise ValueError("not a row in quarantine") from None


def plus(quarantine: Quarantine, rows: Sequence[QuarantinedRow], file_bytes: int) -> Quarantine:
    """With these rows as well, and with so many bytes in the file."""
    reasons = dict(quarantine.reasons)
    for row in rows:
        reason = row.reason if row.reason in reasons or len(reasons) < _MOST_REASONS else _OTHER_REASONS
        reasons[reason] = reasons.get(reason, 0) + 1
    return replace(quarantine, rows=quarantine.rows + len(rows), reasons=tuple(reasons.items()), file_bytes=file_bytes)


@dataclass(frozen=True, slots=True)
class Tolerance:
    """How many bad rows a job bears (`rows`), or which share of the rows read so far; None: any."""

    rows: int | None = None
    share: float | None = None

    @classmethod
    def parse(cls, text: str) -> Tolerance:
        """`N` or `P%`. Raises ValueError."""
        number = text.removesuffix("%").strip()
        if text.endswith("%"):
            share = float(number) / 100
            if not 0 <= share <= 1:
                raise ValueError(text)
            return cls(share=share)
        if not number.isdecimal():
            raise ValueError(text)
        return cls(int(number))

    def excess(self, bad_rows: int, rows: int, *, is_end: bool) -> BadData | None:
        """The error to end with where `bad_rows` among the file's first `rows` are too many."""
        if self.rows is not None and bad_rows > self.rows:
            limit = f"--max-bad-rows {self.rows}"
        elif self.share is not None and bad_rows > self.share * rows and (is_end or rows >= _SHARE_FROM_ROWS):
            limit = f"--max-bad-rows {100 * self.share:g}%"
        else:
            return None
        return BadData(
            f"{bad_rows} of the first {rows} rows are bad, more than {limit} allows",
            hint="csv2kafka bad-rows JOB shows those set apart. Raise the limit and run again to go on; if all rows "
            "look wrong, see --delimiter, --quote and --encoding.",
        )


ANY_NUMBER = Tolerance()


def refuse_other_place(begun: Quarantine | None, place: str | None) -> None:
    """A job's bad rows stay in one place, and one that set some apart goes on so. Raises JobConflict."""
    if begun is None or begun.place == place:
        return
    raise JobConflict(
        f"this job set its bad rows apart in {begun.place} until now, not in {place}"
        if place
        else f"this job began with --bad-rows quarantine, and {begun.rows} of its rows are in {begun.place}",
        hint=f"Go on with --bad-rows quarantine --bad-rows-to {begun.place} (--max-bad-rows {begun.rows} ends the job "
        "at the next one), or load under a new --job-id.",
    )


def _headers(row: QuarantinedRow, source: SourceIdentity) -> list[tuple[str, bytes]]:
    return [
        *_origin(source),
        ("file.offset", str(row.byte_offset).encode()),
        ("file.length", str(len(row.text)).encode()),
        ("csv.row", str(row.row).encode()),
        ("error.reason", row.reason.encode()),
    ]


def _origin(source: SourceIdentity) -> list[tuple[str, bytes]]:
    version = source.version_id or source.etag
    return [("file.name", source.uri.encode()), ("file.version", version.encode())]
