"""What has happened in one run, and the sample of it that the metrics sinks are told. Times are monotonic."""

from __future__ import annotations

import time
from dataclasses import dataclass

from csv2kafka.eta import eta_s
from csv2kafka.model import Checkpoint, Sample
from csv2kafka.sources import Source


@dataclass(slots=True)
class Progress:
    """Counted by the pipeline, in whose receipt it ends."""

    began_s: float  # when the lease was taken
    sending_since_s: float  # when the first take-over was done: rates and ETA count from here
    bytes_before: int  # of the source, done by earlier runs
    rows_before: int
    takeovers: int = 0
    recoveries: int = 0  # those of the take-overs that a failure made necessary
    retries: int = 0
    foreign_records: int = 0
    startup_s: float | None = None
    ack_latency_s: float | None = None

    def rows_per_s(self, row: int) -> int:
        """Of this run until `row` was acknowledged."""
        return round((row - self.rows_before) / max(1e-3, time.monotonic() - self.sending_since_s))

    def sample(
        self, checkpoint: Checkpoint, source: Source, *, checkpoints: int, retries: int, rows_total: int | None
    ) -> Sample:
        """The run as it stands with this checkpoint; `retries` are those of the epoch under way."""
        now_s = time.monotonic()
        sending_s = now_s - self.sending_since_s
        size_bytes = source.identity.size_bytes
        done_bytes = source.object_bytes(checkpoint.byte_offset or 0)
        return Sample(
            rows=checkpoint.last_line,
            bytes_done=done_bytes,
            bytes_total=size_bytes,
            elapsed_s=now_s - self.began_s,
            rows_per_s=(checkpoint.last_line - self.rows_before) / sending_s,
            eta_s=eta_s(done_bytes - self.bytes_before, size_bytes - self.bytes_before, sending_s),
            ack_latency_s=self.ack_latency_s,
            checkpoints=checkpoints,
            retries=self.retries + retries,
            rows_total=rows_total,
            bad_rows=checkpoint.quarantine.rows if checkpoint.quarantine else 0,
        )
