"""Where a job's lease and checkpoint live: the protocol here, one file for each store, and the one that opens them.

`item.py` and `lease.py` hold what the stores share. No store's own code may live here.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Protocol

from csv2kafka.checkpoints.item import Item
from csv2kafka.errors import ConfigError
from csv2kafka.model import Checkpoint


class CheckpointStore(Protocol):
    """One job's lease and checkpoint, in one item, so that a stolen lease blocks stale checkpoints.

    Methods block (the pipeline calls them off its event loop) and may be called from any thread, one at a time.
    All raise CheckpointMissing, CheckpointUnavailable, Denied and ConfigError; those that read raise JobConflict
    for values that make no sense.
    """

    def acquire(self, job_id: str) -> Checkpoint | None:
        """Take the job's lease and return its newest checkpoint, None for a job never seen.

        May wait for the lease's time to live (10 s) to see that its holder is dead.
        Raises JobHeld (who holds it, since when).
        """
        ...

    def save(self, checkpoint: Checkpoint) -> None:
        """Write the checkpoint and renew the lease. Raises Fenced when the lease is no longer ours."""
        ...

    def renew(self) -> None:
        """Keep the lease while there is nothing new to save. Raises Fenced when it is no longer ours.

        A lease that is neither saved with nor renewed for 10 s may be taken by another process.
        """
        ...

    def release(self) -> None:
        """Give the lease up; the checkpoint stays. Nothing happens when no lease is held or it was taken away."""
        ...

    def load(self, job_id: str) -> Checkpoint | None:
        """Read the newest checkpoint without taking the lease."""
        ...

    def look(self, job_id: str | None = None) -> list[Item]:
        """The job's item as it lies in the store, lease included; without a name all jobs', in the names' order."""
        ...

    def forget(self, job_id: str) -> None:
        """Leave of the job only that it was forgotten on purpose (status RESET), also when it was never seen.

        Raises JobHeld like `acquire`, but never JobConflict: this is the way out of one.
        """
        ...

    def keep(self, name: str, body: bytes) -> bool:
        """Put a document beside the checkpoints, unless there is one of this name: False then. No lease is needed."""
        ...

    def kept(self, name: str) -> bytes | None:
        """The document of this name, as it was put; None where there is none."""
        ...

    def discard(self, name: str) -> None:
        """Take the document away, if there is one."""
        ...


def open_store(
    url: str | None, job_id: str, *, region: str | None = None, profile: str | None = None
) -> CheckpointStore:
    """The store behind `sqlite:///PATH` or `dynamodb://TABLE`; None is a file in the user's state folder.

    `region` and `profile` are AWS's; None leaves them to the environment and AWS's own files.
    Raises ConfigError for any other URL, and for None where this machine's files die with the task.
    """
    if url is None:
        return _default_store()
    scheme, separator, rest = url.partition("://")
    # As SQLAlchemy writes it: the third slash ends the (empty) host, so an absolute path makes four.
    if separator and scheme == "sqlite" and rest.startswith("/") and rest not in ("/", "/:memory:"):
        from csv2kafka.checkpoints.sqlite import SqliteStore  # noqa: PLC0415 - only the store in use is loaded

        return SqliteStore(Path(rest[1:]))
    if separator and scheme == "dynamodb" and re.fullmatch(r"[A-Za-z0-9_.-]{3,255}", rest):
        from csv2kafka.checkpoints.dynamodb import CheckpointManager  # noqa: PLC0415 - boto3 takes its time

        return CheckpointManager(rest, job_id, region=region, profile=profile)
    raise ConfigError(
        f"no checkpoint store is called {url!r}",
        hint="give sqlite:///PATH (four slashes before an absolute path) or dynamodb://TABLE",
    )


def _default_store() -> CheckpointStore:
    if "AWS_BATCH_JOB_ID" in os.environ or os.environ.get("AWS_EXECUTION_ENV", "").startswith("AWS_ECS_"):
        raise ConfigError(
            "the default checkpoint file would die with this container, and the job's progress with it",
            hint="keep checkpoints in a table: --checkpoint dynamodb://TABLE "
            "(or name a file on a volume that stays: --checkpoint sqlite:////PATH)",
        )
    from csv2kafka.checkpoints.sqlite import SqliteStore, default_path  # noqa: PLC0415 - only the store in use

    return SqliteStore(default_path())
