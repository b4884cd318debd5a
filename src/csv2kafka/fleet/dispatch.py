"""Hands a manifest's entries to workers until all are done, failed for good, or the run is told to stop.

A worker that dies costs its file some time: the file is handed out again, and its job goes on where the log says. What
may pass (exit code 75) is tried again a few times, with pauses; what will not is told at the end, and the others go on.
"""

from __future__ import annotations

import heapq
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from csv2kafka.fleet import work
from csv2kafka.fleet.cluster import Cluster, Handle, WorkerLost
from csv2kafka.fleet.manifest import Entry, Manifest
from csv2kafka.fleet.overview import Overview
from csv2kafka.fleet.placement import Queue
from csv2kafka.fleet.work import Failure, Outcome
from csv2kafka.metrics import MetricsSink
from csv2kafka.pipeline import StopFlag
from csv2kafka.settings import RunSettings

_LOG = logging.getLogger(__name__)

MOST_ATTEMPTS = 6  # at one file, in a row, none of which got a row further
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 1.0, 30.0
_LOOK_EVERY_S = 0.5
_STOP_WITHIN_S = 7.5  # of the 9.5 that the process has; a job takes up to 6
_AGAIN = 75


@dataclass(frozen=True, slots=True)
class Fleet:
    """What stays the same while a fleet is loaded. `run_id` names this run among those that share the workers."""

    manifest: Manifest
    settings: RunSettings
    run_id: str
    is_local: bool = False


class Dispatcher:
    """One run of one fleet. `run` returns the outcomes of the entries that came to an end in it."""

    def __init__(
        self,
        fleet: Fleet,
        cluster: Cluster,
        queue: Queue,
        overview: Overview,
        *,
        sinks: Sequence[MetricsSink],
        stop: StopFlag,
        clock_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._fleet = fleet
        self._schema = work.schema_of(fleet.settings)
        self._cluster = cluster
        self._queue = queue
        self._overview = overview
        self._sinks = sinks
        self._stop = stop
        self._clock_s = clock_s
        self._running: dict[Handle, Entry] = {}
        self._attempts: dict[int, _Attempts] = {}
        self._later: list[tuple[float, int, Entry]] = []  # a heap: when, and what
        self._outcomes: dict[int, Outcome] = {}
        self._sampled_s = float("-inf")
        self._has_told_of_no_worker = False

    def run(self) -> dict[int, Outcome]:
        """By the entries' indexes. Raises ClusterLost."""
        try:
            while not self._stop.is_set() and (len(self._queue) or self._running or self._later):
                self._hand_out()
                self._take_in(_LOOK_EVERY_S)
            if self._stop.is_set():
                self._wind_up()
        finally:
            self._sample()
        return self._outcomes

    def _hand_out(self) -> None:
        room = self._cluster.worker_threads() - len(self._running)
        if room + len(self._running) == 0 and not self._has_told_of_no_worker:
            self._has_told_of_no_worker = True
            _LOG.warning("the Dask cluster has no workers yet: waiting for them")
        while room > 0 and (entry := self._next()) is not None:
            self._submit(entry)
            room -= 1

    def _next(self) -> Entry | None:
        if self._later and self._later[0][0] <= self._clock_s():
            return heapq.heappop(self._later)[2]
        return self._queue.next()

    def _submit(self, entry: Entry) -> None:
        attempts = self._attempts.setdefault(entry.index, _Attempts())
        attempts.count += 1
        name = f"{self._fleet.manifest.job_id(entry)}-{self._fleet.run_id}-{attempts.count}"
        fleet = self._fleet
        assignment = work.assignment_of(
            fleet.manifest, entry, fleet.settings, self._schema, run_id=fleet.run_id, quiet=fleet.is_local
        )
        self._overview.handed_out(entry)
        self._running[self._cluster.submit(work.load_entry, assignment, name=name)] = entry

    def _take_in(self, timeout_s: float) -> None:
        """Wait for something to end, no longer than it takes until there is something else to do."""
        if self._running:
            done = self._cluster.first_done(self._running.keys(), timeout_s)
        else:
            time.sleep(min(timeout_s, 0.1))
            done = set()
        for future in done:
            self._ended(self._running.pop(future), future)
        if self._clock_s() - self._sampled_s >= 1.0:
            self._sample()

    def _ended(self, entry: Entry, future: Handle) -> None:
        try:
            outcome = self._cluster.result(future)
        except WorkerLost as error:
            _LOG.warning("%s: its workers died; it is handed out again", self._fleet.manifest.job_id(entry))
            outcome = Outcome(entry.index, "", failure=Failure("machine", str(error), "see the workers' logs", _AGAIN))
        if outcome.receipt is not None and outcome.receipt.status == "stopped" and not self._stop.is_set():
            let_go = Failure("machine", "its worker let go of it", "see the workers' logs", _AGAIN)
            outcome = Outcome(entry.index, outcome.worker, failure=let_go)
        if outcome.failure is not None and outcome.failure.exit_code == _AGAIN and not self._stop.is_set():
            pause_s = self._attempts[entry.index].pause_s(self._overview.rows_of(entry))
            if pause_s is not None:
                self._overview.put_off(entry, outcome.failure.message)
                heapq.heappush(self._later, (self._clock_s() + pause_s, entry.index, entry))
                return
        self._conclude(entry, outcome)

    def _conclude(self, entry: Entry, outcome: Outcome) -> None:
        self._outcomes[entry.index] = outcome
        self._overview.ended(outcome)
        if outcome.failure is None:
            self._queue.done(entry)
            return
        job_id = self._fleet.manifest.job_id(entry)
        _LOG.warning("%s (%s) failed: %s", job_id, entry.label, outcome.failure.message)
        for other in self._queue.give_up(entry):
            self._overview.held_back(other, f"{job_id}, which comes before it in its partition, is not loaded")

    def _wind_up(self) -> None:
        """Told to stop: what is under way comes to a checkpoint, and nothing new begins."""
        self._cluster.on_all_workers(work.stop, self._fleet.run_id)
        end_s = self._clock_s() + _STOP_WITHIN_S
        while self._running and self._clock_s() < end_s:
            self._take_in(0.2)

    def _sample(self) -> None:
        self._sampled_s = self._clock_s()
        sample = self._overview.sample()
        for sink in self._sinks:
            sink.record(sample)


@dataclass(slots=True)
class _Attempts:
    """Of one entry; those in vain got no row further."""

    count: int = 0
    in_vain: int = 0
    rows: int = -1

    def pause_s(self, rows: int) -> float | None:
        """How long to wait before the next one; None when there have been enough."""
        self.in_vain = 0 if rows > self.rows else self.in_vain + 1
        self.rows = max(self.rows, rows)
        if self.in_vain >= MOST_ATTEMPTS:
            return None
        return float(min(_LONGEST_PAUSE_S, _FIRST_PAUSE_S * 2**self.in_vain))
