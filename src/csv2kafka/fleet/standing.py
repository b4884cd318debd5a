"""`csv2kafka status --fleet` and `reset --fleet`: where a fleet stands, and forgetting it, from the store alone."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Any

from csv2kafka import human, status
from csv2kafka.checkpoints import CheckpointStore
from csv2kafka.checkpoints.item import Item
from csv2kafka.errors import JobConflict
from csv2kafka.fleet.freezing import kept_manifest, no_such_fleet, store_of
from csv2kafka.fleet.manifest import Entry, Manifest
from csv2kafka.model import JobStatus
from csv2kafka.settings import StoreSettings
from csv2kafka.status import Standing

WAITING = "waiting"
_AT_REST = (WAITING, "complete")
_MOST_SHOWN = 20


@dataclass(frozen=True, slots=True)
class FileStanding:
    """One entry; `job` is None while it has not begun."""

    entry: Entry
    job_id: str
    job: Standing | None

    @property
    def state(self) -> str:
        """That of its job, or waiting."""
        return WAITING if self.job is None else self.job.state

    @property
    def bytes(self) -> int:
        """Of the source, behind which its job stands."""
        progress = self.job.progress if self.job is not None else None
        return round((progress or 0.0) * self.entry.size_bytes)


@dataclass(frozen=True, slots=True)
class FleetStanding:
    """The whole. `rows_per_s` is that of the jobs that run, `eta_s` is at their pace; None while none runs."""

    manifest: Manifest
    files: tuple[FileStanding, ...]

    @property
    def counts(self) -> dict[str, int]:
        """Entries by state."""
        return dict(Counter(file.state for file in self.files))

    @property
    def rows(self) -> int:
        return sum(job.rows for job in self._jobs())

    @property
    def bad_rows(self) -> int:
        return sum(job.bad_rows for job in self._jobs())

    @property
    def bytes(self) -> int:
        return sum(file.bytes for file in self.files)

    @property
    def rows_per_s(self) -> int | None:
        rates = [job.rows_per_s for job in self._jobs() if job.rows_per_s is not None]
        return sum(rates) if rates else None

    @property
    def eta_s(self) -> float | None:
        if not (self.rows_per_s and self.rows and self.bytes):
            return None
        return (self.manifest.size_bytes - self.bytes) * self.rows / self.bytes / self.rows_per_s

    def _jobs(self) -> Iterator[Standing]:
        return (file.job for file in self.files if file.job is not None)


def standing(settings: StoreSettings, name: str) -> FleetStanding:
    """Raises JobConflict where there is no such fleet, or an item of its jobs makes no sense."""
    store = store_of(settings)
    manifest = kept_manifest(store, name)
    jobs = {item["job_id"]: status.of_item(item) for item in _items(store, name)}
    names = ((entry, manifest.job_id(entry)) for entry in manifest.entries)
    return FleetStanding(manifest, tuple(FileStanding(entry, job_id, jobs.get(job_id)) for entry, job_id in names))


def reset(settings: StoreSettings, name: str) -> str:
    """Forget the fleet's jobs, then its manifest, which need not be readable. Returns a sentence for the user.

    Raises JobHeld, before anything is forgotten, while a job of it is held; JobConflict where there is no such fleet.
    """
    store = store_of(settings)
    items = _items(store, name)
    if store.kept(name) is None and not items:
        raise no_such_fleet(name)
    for item in items:
        if item.get("lease_owner") is not None:
            _prove_free(store, item["job_id"])
    left = [item["job_id"] for item in items if item.get("status") != JobStatus.RESET]
    for job_id in left:
        store.forget(job_id)
    store.discard(name)
    jobs = human.plural(len(left), "job")
    return f"fleet {name} and {jobs} of it are forgotten: its next run begins anew (what they sent stays in the topic)"


def _prove_free(store: CheckpointStore, job_id: str) -> None:
    """Wait out a holder that died. Raises JobHeld for one that lives."""
    with suppress(JobConflict):  # an item that makes no sense can be forgotten all the same
        store.acquire(job_id)
        store.release()


def _items(store: CheckpointStore, name: str) -> list[Item]:
    """Of the jobs that the fleet has begun, known by their names alone."""
    of_fleet = re.compile(re.escape(name) + r"/\d{5,}")
    return [item for item in store.look() if of_fleet.fullmatch(str(item["job_id"]))]


def as_dict(fleet: FleetStanding) -> dict[str, Any]:
    manifest = fleet.manifest
    return {
        "fleet": manifest.name,
        "source": manifest.source,
        "topic": manifest.topic,
        "placement": manifest.placement,
        "created": manifest.created,
        "counts": fleet.counts,
        "rows": fleet.rows,
        "bad_rows": fleet.bad_rows,
        "bytes": fleet.bytes,
        "size_bytes": manifest.size_bytes,
        "rows_per_s": fleet.rows_per_s,
        "eta_s": fleet.eta_s,
        "files": [_file_dict(file) for file in fleet.files],
    }


def _file_dict(file: FileStanding) -> dict[str, Any]:
    entry, job = file.entry, file.job
    return {
        "index": entry.index,
        "job_id": file.job_id,
        "source": entry.source.uri,
        "part": asdict(entry.part) if entry.part else None,
        "partition": entry.partition,
        "size_bytes": entry.size_bytes,
        "bytes": file.bytes,
        "state": file.state,
        "rows": job.rows if job else 0,
        "bad_rows": job.bad_rows if job else 0,
        "held_by": job.held_by if job else None,
        "rows_per_s": job.rows_per_s if job else None,
        "eta_s": job.eta_s if job else None,
        "checkpoint_age_s": job.checkpoint_age_s if job else None,
        "last_error": job.last_error if job else None,
    }


def as_text(fleet: FleetStanding) -> str:
    """Aligned lines, and a table of the first entries under way or in trouble; without a newline at the end."""
    manifest, counts = fleet.manifest, fleet.counts
    states = sorted(counts, key=lambda state: (state != "complete", state == WAITING, state))
    ratio = fleet.bytes / manifest.size_bytes if manifest.size_bytes else 1.0
    lines = {
        "fleet": manifest.name,
        "source": manifest.source,
        "topic": f"{manifest.topic}, {human.plural(len({file.entry.partition for file in fleet.files}), 'partition')}",
        "frozen": manifest.created,
        f"{manifest.noun}s": f"{len(fleet.files):,}: " + ", ".join(f"{counts[state]:,} {state}" for state in states),
        "rows": f"{fleet.rows:,}",
        "bad rows": f"{fleet.bad_rows:,}" if fleet.bad_rows else None,
        "bytes": f"{human.size(fleet.bytes)} of {human.size(manifest.size_bytes)} ({ratio:.1%})",
        "speed": f"{human.short(fleet.rows_per_s)} rows/s" if fleet.rows_per_s is not None else None,
        "ETA": human.clock(fleet.eta_s) if fleet.eta_s is not None else None,
    }
    told = [f"  {name:<10}  {value}" for name, value in lines.items() if value is not None]
    return "\n".join([*told, *_table([file for file in fleet.files if file.state not in _AT_REST])])


def _table(files: Sequence[FileStanding]) -> list[str]:
    """A line for each, and below it who holds it and its last error."""
    if not files:
        return []
    shown = files[:_MOST_SHOWN]
    head = ("JOB", "STATE", "ROWS", "DONE", "SOURCE")
    rows = [head, *(_cells(file) for file in shown)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(head) - 1)]
    lines = [""]
    for row, file in zip(rows, (None, *shown), strict=True):
        lines.append("  ".join([*map(str.ljust, row, widths), row[-1]]))
        if file is not None and file.job is not None:
            told = (f"held by {file.job.held_by}" if file.job.held_by else None, file.job.last_error)
            lines += [f"  {what}" for what in told if what]
    if len(files) > len(shown):
        lines.append(f"and {len(files) - len(shown):,} more: --json lists all")
    return lines


def _cells(file: FileStanding) -> tuple[str, ...]:
    job = file.job
    rows, progress = (job.rows, job.progress) if job is not None else (0, None)
    return file.job_id, file.state, f"{rows:,}", "" if progress is None else f"{progress:.0%}", file.entry.label
