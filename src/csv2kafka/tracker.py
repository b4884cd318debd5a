"""What has happened in one run, and the sample of it that the metrics sinks are told. Times are monotonic."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from csv2kafka.errors import CheckpointUnavailable, Csv2KafkaError, SourceUnavailable
from csv2kafka.eta import eta_s
from csv2kafka.kafka.sender import Sender
from csv2kafka.keeper import Keeper
from csv2kafka.model import Checkpoint, Sample
from csv2kafka.sources import Source


@dataclass(slots=True)
class Progress:
    """Counted by the pipeline, in whose receipt it ends."""

    began_s: float  # when the lease was taken
    sending_since_s: float  # when the first take-over was done: rates and ETA count from here
    bytes_before: int  # of the source (of a part: of that), done by earlier runs
    rows_before: int
    bad_rows_before: int = 0
    takeovers: int = 0
    recoveries: int = 0  # those of the take-overs that a failure made necessary
    retries: int = 0
    foreign_records: int = 0
    throttled_s: float = 0.0
    startup_s: float | None = None
    _ack_latency_s: float | None = None
    _ack_latencies_s: list[float] = field(default_factory=list)  # since the last sample
    _errors: Counter[str] = field(default_factory=Counter)

    def begin(self, checkpoint: Checkpoint, source: Source) -> None:
        """The first take-over is done, and this is where it left the job."""
        self.sending_since_s = time.monotonic()
        self.rows_before = checkpoint.rows
        self.bytes_before = source.object_bytes(checkpoint.byte_offset or 0)
        self.bad_rows_before = checkpoint.quarantine.rows if checkpoint.quarantine else 0

    def survived(self, error: Csv2KafkaError) -> None:
        self.recoveries += 1
        self._errors[error.kind] += 1

    def end_epoch(self, senders: Sequence[Sender]) -> None:
        """Keep what was counted by senders that are done."""
        self.retries += sum(sender.retries for sender in senders)
        self.foreign_records += sum(sender.foreign_records for sender in senders)
        self.throttled_s += sum(sender.throttled_s for sender in senders)
        self._take_latencies(senders)

    def rows_per_s(self, rows: int) -> int:
        """Of this run until so many rows of the job were acknowledged."""
        return round((rows - self.rows_before) / max(1e-3, time.monotonic() - self.sending_since_s))

    def sample(
        self,
        checkpoint: Checkpoint,
        source: Source,
        keeper: Keeper,
        senders: Sequence[Sender],
        *,
        rows_total: int | None,
    ) -> Sample:
        """The run as it stands with this checkpoint; `senders` are those of the epoch under way."""
        self._take_latencies(senders)
        latencies_s, self._ack_latencies_s = tuple(self._ack_latencies_s), []
        now_s = time.monotonic()
        sending_s = now_s - self.sending_since_s
        size_bytes = source.object_size_bytes
        done_bytes = source.object_bytes(checkpoint.byte_offset or 0)
        quarantine = checkpoint.quarantine
        repeated = {CheckpointUnavailable.kind: keeper.failures, SourceUnavailable.kind: source.failures}
        errors = self._errors + Counter(repeated)
        return Sample(
            rows=checkpoint.rows,
            bytes_done=done_bytes,
            bytes_total=size_bytes,
            elapsed_s=now_s - self.began_s,
            rows_per_s=(checkpoint.rows - self.rows_before) / sending_s,
            eta_s=eta_s(done_bytes - self.bytes_before, size_bytes - self.bytes_before, sending_s),
            ack_latency_s=self._ack_latency_s,
            checkpoints=keeper.saves,
            retries=self.retries + sum(sender.retries for sender in senders),
            rows_total=rows_total,
            bad_rows=quarantine.rows if quarantine else 0,
            bad_row_reasons=quarantine.reasons if quarantine else (),
            rows_before=self.rows_before,
            bytes_before=self.bytes_before,
            bad_rows_before=self.bad_rows_before,
            ack_latencies_s=latencies_s,
            checkpoint_age_s=keeper.age_s,
            checkpoint_lag_rows=checkpoint.last_line - (keeper.saved.last_line if keeper.saved else 0),
            takeovers=self.takeovers,
            foreign_records=self.foreign_records + sum(sender.foreign_records for sender in senders),
            errors=tuple(errors.items()),
            throttled_s=self.throttled_s + sum(sender.throttled_s for sender in senders),
        )

    def _take_latencies(self, senders: Sequence[Sender]) -> None:
        for sender in senders:
            self._ack_latencies_s += sender.ack_latencies_s
            sender.ack_latencies_s.clear()
        self._ack_latency_s = self._ack_latencies_s[-1] if self._ack_latencies_s else self._ack_latency_s
