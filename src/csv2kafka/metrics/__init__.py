"""Who is told how a job goes: the protocol here, one file for each sink. A sink never fails the job."""

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
