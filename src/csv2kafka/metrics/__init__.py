"""Who is told how a job goes: the protocol here, one file for each sink. A sink never fails the job.

And the figures of a sample that more than one sink shows.
"""

from __future__ import annotations

from typing import Protocol

from csv2kafka.model import Sample


class MetricsSink(Protocol):
    def record(self, sample: Sample) -> None:
        """Take one sample (about one a second). Must not block and must not raise."""
        ...

    def close(self) -> None:
        """Push out what is buffered."""
        ...


def progress_ratio(sample: Sample) -> float:
    """How much of the source is done, 0 to 1, by bytes."""
    return min(1.0, sample.bytes_done / sample.bytes_total) if sample.bytes_total else 1.0


def rows_expected(sample: Sample) -> int | None:
    """Rows of the file: nobody counts them beforehand, those done say how long a row is. None: no telling yet."""
    if sample.rows_total is not None or not sample.bytes_done:
        return sample.rows_total
    return max(sample.rows, round(sample.rows * sample.bytes_total / sample.bytes_done))
