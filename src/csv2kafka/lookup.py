"""A job by its name, as the checkpoint store tells of it."""

from __future__ import annotations

from csv2kafka.checkpoints import open_store
from csv2kafka.errors import JobConflict
from csv2kafka.model import Checkpoint
from csv2kafka.settings import StoreSettings


def job_of(store: StoreSettings, job_id: str) -> Checkpoint:
    """The job's checkpoint. Raises JobConflict where there is no such job, or it has sent nothing."""
    opened = open_store(store.checkpoint_url, job_id, region=store.region, profile=store.profile)
    found = opened.load(job_id)
    if found is None or found.record_shape is None:
        raise JobConflict(
            f"there is no job {job_id}", hint="See its name in the receipt; name its store with --checkpoint."
        )
    return found
