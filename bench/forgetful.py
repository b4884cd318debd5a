"""The csv2kafka command with a checkpoint store that keeps nothing and holds no lease: only for promise.py.

    python -m bench.forgetful run SOURCE TOPIC ...

Everything else is the program as it is. A run that dies cannot be resumed.
"""

from __future__ import annotations

from csv2kafka import cli, jobs
from csv2kafka.checkpoints import CheckpointStore
from csv2kafka.model import Checkpoint


class NoStore:
    """A CheckpointStore that knows no job and says yes to everything."""

    def acquire(self, job_id: str) -> Checkpoint | None:
        return None

    def save(self, checkpoint: Checkpoint) -> None:
        pass

    def renew(self) -> None:
        pass

    def release(self) -> None:
        pass

    def load(self, job_id: str) -> Checkpoint | None:
        return None

    def forget(self, job_id: str) -> None:
        pass


def _no_store(*_: object, **__: object) -> CheckpointStore:
    return NoStore()


if __name__ == "__main__":
    jobs.open_store = _no_store
    cli.main()
