"""What a fleet came to: each file's receipt, and one for the whole. Pure: no printing, no files."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from csv2kafka import human
from csv2kafka.fleet.manifest import Entry, Manifest
from csv2kafka.model import Checkpoint, Part
from csv2kafka.outcome import lanes_of
from csv2kafka.receipt import Receipt

_AGAIN = 75
_MOST_SHOWN = 20
COMPLETE, FAILED, HELD_BACK = "complete", "failed", "held back"


@dataclass(frozen=True, slots=True)
class FileReceipt:
    """One entry. `status`: complete | failed | held back | stopped | waiting; offsets as in LaneReceipt."""

    index: int
    job_id: str
    source: str
    size_bytes: int
    part: Part | None
    partition: int
    status: str
    rows: int = 0
    bad_rows: int = 0
    crc32c: str | None = None
    first_offset: int | None = None
    next_offset: int | None = None
    worker: str | None = None
    attempts: int = 0
    error: str | None = None
    hint: str | None = None
    exit_code: int = 0


@dataclass(frozen=True, slots=True)
class FleetReceipt:
    """The whole; `rows` and `bytes` are those that are safe, by earlier runs as well."""

    fleet: str
    source: str
    topic: str
    placement: str
    status: str  # complete | stopped | failed
    files: tuple[FileReceipt, ...]
    rows: int
    rows_this_run: int
    bytes: int
    bad_rows: int
    duration_s: float
    rows_per_s: float

    @property
    def exit_code(self) -> int:
        """0, or that of the first file whose failure will not pass by itself, or 75 where all may."""
        codes = [file.exit_code for file in self.files if file.status == FAILED]
        return next((code for code in codes if code != _AGAIN), _AGAIN if codes else 0)


def of_entry(manifest: Manifest, entry: Entry, status: str, **more: Any) -> FileReceipt:
    job_id, uri = manifest.job_id(entry), entry.source.uri
    return FileReceipt(entry.index, job_id, uri, entry.size_bytes, entry.part, entry.partition, status, **more)


def of_checkpoint(checkpoint: Checkpoint) -> dict[str, Any]:
    """The figures of a job as its checkpoint tells of it."""
    lane = next(iter(lanes_of(checkpoint)), None)
    bad_rows = checkpoint.quarantine.rows if checkpoint.quarantine else 0
    return {
        "rows": checkpoint.rows,
        "bad_rows": bad_rows,
        "crc32c": None if checkpoint.crc32c is None else f"{checkpoint.crc32c:08x}",
        "first_offset": lane.first_offset if lane else None,
        "next_offset": lane.next_offset if lane else None,
    }


def of_receipt(receipt: Receipt) -> dict[str, Any]:
    """The same figures, as the run of the job tells of it."""
    return {
        "rows": receipt.rows,
        "bad_rows": receipt.quarantine.rows if receipt.quarantine else 0,
        "crc32c": receipt.crc32c,
        "first_offset": receipt.first_offset,
        "next_offset": receipt.next_offset,
    }


def as_dict(receipt: FleetReceipt) -> dict[str, Any]:
    return {**asdict(receipt), "failures": _counts(receipt.files)[FAILED], "exit_code": receipt.exit_code}


def as_text(receipt: FleetReceipt) -> str:
    """A headline, aligned lines, and what went wrong; without a newline at the end."""
    counts = _counts(receipt.files)
    files = f"{counts[COMPLETE]:,} of {human.plural(len(receipt.files), _noun(receipt.files))} complete"
    lines = {
        "fleet": receipt.fleet,
        "source": receipt.source,
        "topic": f"{receipt.topic}, {human.plural(len({file.partition for file in receipt.files}), 'partition')}",
        f"{_noun(receipt.files)}s": ", ".join(
            (files, *(f"{n:,} {status}" for status, n in sorted(counts.items()) if status != COMPLETE))
        ),
        "rows": f"{receipt.rows:,}"
        + ("" if receipt.rows == receipt.rows_this_run else f" ({receipt.rows_this_run:,} in this run)"),
        "bad rows": f"{receipt.bad_rows:,}" if receipt.bad_rows else None,
        "bytes": f"{receipt.bytes:,} ({human.size(receipt.bytes)})",
        "duration": human.duration(receipt.duration_s),
        "speed": f"{receipt.rows_per_s:,.0f} rows/s" if receipt.rows_this_run else None,
    }
    told = [f"  {name:<10}  {value}" for name, value in lines.items() if value is not None]
    return "\n".join([_headline(receipt, counts), "", *told, *failures(receipt.files)])


def manifest_dict(manifest: Manifest) -> dict[str, Any]:
    entries = [{**asdict(entry), "job_id": manifest.job_id(entry)} for entry in manifest.entries]
    return {**asdict(manifest), "entries": entries, "size_bytes": manifest.size_bytes}


def manifest_text(manifest: Manifest, *, is_kept: bool) -> str:
    """A headline, and a line for each entry."""
    count = human.plural(len(manifest.entries), manifest.noun)
    kept = f"frozen as {manifest.name}" if is_kept else "nothing was kept or sent"
    head = f"{count}, {human.size(manifest.size_bytes)}, {manifest.source} -> {manifest.topic} ({kept})"
    rows = [("FILE", "PARTITION", "SIZE", "WHAT")]
    for entry in manifest.entries:
        rows.append((str(entry.index), str(entry.partition), human.size(entry.size_bytes), entry.label))
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    return "\n".join([head, "", *("  ".join([*map(str.ljust, row, widths), row[3]]) for row in rows)])


def failures(files: Sequence[FileReceipt]) -> list[str]:
    """A paragraph for each of the first files that failed."""
    failed = [file for file in files if file.status == FAILED]
    lines = []
    for file in failed[:_MOST_SHOWN]:
        lines += ["", f"  {file.job_id}  {file.source}", f"    {file.error}", f"    {file.hint}"]
    if len(failed) > _MOST_SHOWN:
        lines += ["", f"  and {len(failed) - _MOST_SHOWN:,} more: --json lists all"]
    return lines


def _headline(receipt: FleetReceipt, counts: Counter[str]) -> str:
    rows = human.plural(receipt.rows, "row")
    if receipt.status == COMPLETE:
        return f"complete: {rows} of {human.plural(len(receipt.files), _noun(receipt.files))} in {receipt.topic}"
    if receipt.status == "stopped":
        return f"stopped after {rows}, which are safe: run the same command again to go on"
    files = human.plural(len(receipt.files), _noun(receipt.files))
    return f"{counts[FAILED]:,} of {files} failed; {rows} are safe, and the same command tries again"


def _noun(files: Sequence[FileReceipt]) -> str:
    return "part" if any(file.part for file in files) else "file"


def _counts(files: Sequence[FileReceipt]) -> Counter[str]:
    return Counter(file.status for file in files)
