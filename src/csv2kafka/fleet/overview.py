"""How far a fleet is: what its workers tell, added up. Fed from any thread; no metric is shown here."""

from __future__ import annotations

import itertools
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from csv2kafka.eta import eta_s
from csv2kafka.fleet.manifest import Entry, Manifest
from csv2kafka.fleet.work import TOLD, Outcome
from csv2kafka.model import Checkpoint, JobStatus, Sample
from csv2kafka.receipt import Receipt

Figures = dict[str, Any]
STATES = ("waiting", "running", "stopped", "complete", "failed", "held back")
_NOTHING: Figures = dict.fromkeys(TOLD, 0)
_MOST_FAILED = 20  # that the page names: the receipt has all


@dataclass(slots=True)
class Item:
    """One entry. `state` is one of STATES."""

    entry: Entry
    state: str = "waiting"
    worker: str | None = None
    figures: Figures = field(default_factory=_NOTHING.copy)
    error: str | None = None
    attempts: int = 0


def _figures(entry: Entry, checkpoint: Checkpoint) -> Figures:
    """As a worker would tell them, had it come so far and no farther in this run."""
    done_bytes = checkpoint.bytes if checkpoint.restart is None else checkpoint.restart.object_byte
    if checkpoint.status == JobStatus.COMPLETED:
        done_bytes = entry.size_bytes
    found = {
        "rows": checkpoint.rows,
        "bytes_done": done_bytes,
        "bad_rows": checkpoint.quarantine.rows if checkpoint.quarantine else 0,
    }
    before = {"rows": "rows_before", "bytes_done": "bytes_before", "bad_rows": "bad_rows_before"}
    return _NOTHING | found | {before[name]: value for name, value in found.items()}


class Overview:
    """`checkpoints`: where earlier runs left the entries, by their indexes."""

    def __init__(self, manifest: Manifest, checkpoints: Mapping[int, Checkpoint]) -> None:
        self._lock = threading.Lock()
        self._began_s = time.monotonic()
        self._latencies_s: list[float] = []
        self._latency_s: float | None = None
        self._errors: Counter[str] = Counter()
        self._noun = manifest.noun
        self.items = {entry.index: Item(entry) for entry in manifest.entries}
        for index, checkpoint in checkpoints.items():
            item = self.items[index]
            item.state = "complete" if checkpoint.status == JobStatus.COMPLETED else item.state
            item.figures = _figures(item.entry, checkpoint)

    def handed_out(self, entry: Entry) -> None:
        with self._lock:
            item = self.items[entry.index]
            item.state, item.worker, item.error = "running", None, None
            item.attempts += 1

    def told(self, telling: Figures) -> None:
        """A worker's figures of an entry."""
        with self._lock:
            item = self.items.get(telling["index"])
            if item is None or item.state != "running":
                return  # of an attempt that is over
            item.worker = telling["worker"]
            # What this run found stays: a worker tells of what its own attempt found, and Dask makes some unasked.
            kept = {name: item.figures[name] for name in ("rows_before", "bytes_before", "bad_rows_before")}
            item.figures = {name: telling[name] for name in TOLD} | kept
            self._latencies_s += telling["ack_latencies_s"]

    def ended(self, outcome: Outcome) -> None:
        """What came of an attempt; one that failed may be made again."""
        with self._lock:
            item = self.items[outcome.index]
            item.worker = outcome.worker
            if outcome.receipt is not None:
                self._complete(item, outcome.receipt)
            elif outcome.failure is not None:
                item.state, item.error = "failed", outcome.failure.message
                self._errors[outcome.failure.kind] += 1

    def put_off(self, entry: Entry, why: str) -> None:
        """It is to be tried again."""
        with self._lock:
            self.items[entry.index].state, self.items[entry.index].error = "waiting", why

    def held_back(self, entry: Entry, why: str) -> None:
        """It is not loaded, as one before it is not."""
        with self._lock:
            self.items[entry.index].state, self.items[entry.index].error = "held back", why

    def rows_of(self, entry: Entry) -> int:
        with self._lock:
            return int(self.items[entry.index].figures["rows"])

    def counts(self) -> dict[str, int]:
        """Entries by their state, each state named."""
        with self._lock:
            return dict.fromkeys(STATES, 0) | Counter(item.state for item in self.items.values())

    def _in_state(self, state: str) -> Iterator[Item]:
        with self._lock:
            found = [replace(item) for item in self.items.values() if item.state == state]
        return iter(found)

    def details(self, dashboard_url: str) -> dict[str, Any]:
        """For the page and Prometheus: entries by state, those under way with who loads them, the first that failed."""
        running = [
            {
                "file": item.entry.label,
                "worker": item.worker,
                "progress_ratio": min(1.0, item.figures["bytes_done"] / max(1, item.entry.size_bytes)),
                "rows": item.figures["rows"],
            }
            for item in self._in_state("running")
        ]
        failed = [
            {"file": item.entry.label, "error": item.error}
            for item in itertools.islice(self._in_state("failed"), _MOST_FAILED)
        ]
        about = {"noun": self._noun, "dashboard": dashboard_url}
        return {"counts": self.counts(), "running": running, "failed": failed, **about}

    def sample(self) -> Sample:
        """All entries as one job."""
        with self._lock:
            sums = {name: sum(item.figures[name] for item in self.items.values()) for name in TOLD}
            latencies_s, self._latencies_s = tuple(self._latencies_s), []
            errors = tuple(self._errors.items())
            self._latency_s = latencies_s[-1] if latencies_s else self._latency_s
        sums["bytes_total"] = sum(item.entry.size_bytes for item in self.items.values())
        elapsed_s = time.monotonic() - self._began_s
        return Sample(
            **sums,
            elapsed_s=elapsed_s,
            rows_per_s=(sums["rows"] - sums["rows_before"]) / max(1e-3, elapsed_s),
            eta_s=eta_s(
                sums["bytes_done"] - sums["bytes_before"], sums["bytes_total"] - sums["bytes_before"], elapsed_s
            ),
            ack_latency_s=self._latency_s,
            ack_latencies_s=latencies_s,
            errors=errors,
            fleet=(self.counts()["complete"], len(self.items), self._noun),
        )

    def _complete(self, item: Item, receipt: Receipt) -> None:
        item.state = "stopped" if receipt.status == "stopped" else "complete"
        item.figures |= {
            "rows": receipt.rows,
            "bytes_done": item.entry.size_bytes if item.state == "complete" else item.figures["bytes_done"],
            "bad_rows": receipt.quarantine.rows if receipt.quarantine else 0,
        }
