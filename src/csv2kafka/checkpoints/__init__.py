"""Where a job's lease and checkpoint live: the protocol here, one file for each store."""

from __future__ import annotations

from typing import Protocol

from csv2kafka.model import Checkpoint


class CheckpointStore(Protocol):
    """One job's lease and checkpoint, in one item, so that a stolen lease blocks stale checkpoints.

    Methods block (the pipeline calls them off its event loop) and may be called from any thread, one at a time.
    """

    def acquire(self, job_id: str) -> Checkpoint | None:
        """Take the job's lease and return its newest checkpoint, None for a job never seen.

        Raises JobHeld (who holds it, since when), CheckpointMissing, CheckpointUnavailable, Denied.
        """
        ...

    def save(self, checkpoint: Checkpoint) -> None:
        """Write the checkpoint and renew the lease. Raises Fenced when the lease is no longer ours."""
        ...

    def release(self) -> None:
        """Give the lease up; the checkpoint stays."""
        ...

    def load(self, job_id: str) -> Checkpoint | None:
        """Read the newest checkpoint without taking the lease."""
        ...
