"""`csv2kafka status` and `list`: where jobs stand, from the checkpoint store alone, so on any machine."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

from csv2kafka import human
from csv2kafka.checkpoints import open_store
from csv2kafka.checkpoints.item import Item, from_item
from csv2kafka.checkpoints.lease import Lease, is_gone, without_nonsense
from csv2kafka.errors import JobConflict
from csv2kafka.model import Checkpoint, JobStatus, Part
from csv2kafka.outcome import dead_letters_of, lanes_of
from csv2kafka.settings import StoreSettings

_SILENT_S = 10.0  # a holder saves or renews about once a second


@dataclass(frozen=True, slots=True)
class Standing:
    """One job. `state`: running | silent | stopped | complete | failed | reset | new; ages and durations in seconds."""

    job_id: str
    state: str
    held_by: str | None
    source: str | None
    topic: str | None
    rows: int  # of the job
    bad_rows: int
    bad_rows_to: str | None
    progress: float | None  # 0 to 1
    rows_per_s: int | None
    eta_s: float | None
    checkpoint_age_s: float | None
    last_error: str | None
    part: Part | None  # of the source; None: all of it


def standings(store: StoreSettings, job_id: str | None = None) -> list[Standing]:
    """Of one job or of all. Raises JobConflict where there is no such job, or its item makes no sense."""
    opened = open_store(store.checkpoint_url, job_id or "-", region=store.region, profile=store.profile)
    found = opened.look(job_id)
    if job_id is not None and not found:
        raise JobConflict(
            f"there is no job {job_id}", hint="csv2kafka list shows all; name their store with --checkpoint."
        )
    return [of_item(item) for item in found]


def of_item(item: Item) -> Standing:
    """What a job's item tells. Raises JobConflict where it makes no sense."""
    checkpoint = from_item(item) or Checkpoint(str(item["job_id"]))
    lease = Lease.from_item(without_nonsense(item))
    age_s = _age_s(checkpoint.timestamp)
    state = _state(checkpoint, lease, age_s)
    lanes, dead_letters = lanes_of(checkpoint), dead_letters_of(checkpoint)
    progress = _progress(checkpoint)
    rate = checkpoint.rows_per_s if state == "running" else None
    where = None
    if lanes:
        where = str(lanes[0]) if len(lanes) == 1 else f"{lanes[0].topic} ({len(lanes)} partitions)"
    return Standing(
        checkpoint.job_id,
        state,
        lease.holder if lease.owner is not None and state in ("running", "silent") else None,
        checkpoint.source.uri if checkpoint.source else None,
        where,
        checkpoint.rows,
        checkpoint.quarantine.rows if checkpoint.quarantine else 0,
        str(dead_letters) if dead_letters else checkpoint.quarantine.place if checkpoint.quarantine else None,
        progress,
        rate,
        _eta_s(checkpoint.rows, progress, rate),
        age_s,
        checkpoint.last_error,
        checkpoint.part,
    )


def _state(checkpoint: Checkpoint, lease: Lease, age_s: float | None) -> str:
    if checkpoint.status != JobStatus.IN_PROGRESS:
        return {JobStatus.COMPLETED: "complete", JobStatus.FAILED: "failed"}.get(checkpoint.status, "reset")
    if lease.owner is not None and not is_gone(lease.process):
        # A dead holder of another machine leaves its name: only its silence tells.
        return "running" if age_s is None or age_s < _SILENT_S else "silent"
    return "stopped" if checkpoint.timestamp else "new"


def _age_s(timestamp: str) -> float | None:
    try:
        return max(0.0, (datetime.now(UTC) - datetime.fromisoformat(timestamp)).total_seconds())
    except (ValueError, TypeError):
        return None  # another program's


def _progress(checkpoint: Checkpoint) -> float | None:
    if checkpoint.status == JobStatus.COMPLETED:
        return 1.0
    source, restart, part = checkpoint.source, checkpoint.restart, checkpoint.part
    if source is None or checkpoint.byte_offset is None:
        return None
    all_bytes = source.size_bytes if part is None else part.end_byte - part.start_byte
    done_bytes = checkpoint.bytes if restart is None else restart.object_byte
    return min(1.0, done_bytes / all_bytes) if all_bytes else None


def _eta_s(rows: int, progress: float | None, rows_per_s: int | None) -> float | None:
    if not progress or not rows_per_s:
        return None
    return rows * (1 - progress) / progress / rows_per_s


def as_dict(standing: Standing) -> dict[str, Any]:
    return asdict(standing)


def as_text(standing: Standing) -> str:
    """Aligned lines; without a newline at the end."""
    whole = "file" if standing.part is None else "part"
    rows = f"{standing.rows:,}" + ("" if standing.progress is None else f" ({standing.progress:.1%} of the {whole})")
    lines = {
        "job": standing.job_id,
        "state": standing.state,
        "held by": standing.held_by,
        "source": standing.source,
        "part": human.part(standing.part) if standing.part else None,
        "topic": standing.topic,
        "rows": rows,
        "bad rows": f"{standing.bad_rows:,} in {standing.bad_rows_to}" if standing.bad_rows_to else None,
        "speed": f"{human.short(standing.rows_per_s)} rows/s" if standing.rows_per_s is not None else None,
        "ETA": human.clock(standing.eta_s) if standing.eta_s is not None else None,
        "checkpoint": _ago(standing.checkpoint_age_s),
        "last error": standing.last_error,
    }
    return "\n".join(f"  {name:<10}  {value}" for name, value in lines.items() if value is not None)


def as_table(found: Sequence[Standing]) -> str:
    """A line for each job under headings; without a newline at the end."""
    if not found:
        return "no jobs in this checkpoint store"
    rows = [("JOB", "STATE", "ROWS", "DONE", "ETA", "CHECKPOINT", "TOPIC")]
    for one in found:
        rows.append(
            (
                one.job_id,
                one.state,
                f"{one.rows:,}",
                "" if one.progress is None else f"{one.progress:.0%}",
                "" if one.eta_s is None else human.clock(one.eta_s),
                _ago(one.checkpoint_age_s) or "",
                one.topic or "",
            )
        )
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join("  ".join(map(str.ljust, row, widths)).rstrip() for row in rows)


def _ago(age_s: float | None) -> str | None:
    return None if age_s is None else f"{human.duration(age_s)} ago"
