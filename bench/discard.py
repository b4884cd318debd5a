"""What a fleet's worker does in bench/fleet.py: a job whose batches go nowhere, so that no broker is measured."""

from __future__ import annotations

import asyncio
from functools import partial

from csv2kafka import recordbatch
from csv2kafka.fleet import work
from csv2kafka.fleet.work import Assignment, Outcome
from csv2kafka.jobs import Parts
from csv2kafka.kafka.sender import Sender
from csv2kafka.model import Batch

_load_entry = work.load_entry  # before anybody puts the function below in its place


class Discarding(Sender):
    """Seals each batch, and says that it was stored."""

    def send(self, batch: Batch) -> asyncio.Future[int]:
        producer = self._footing.producer
        recordbatch.seal(batch, producer.producer_id, producer.epoch, 0, self._footing.timestamp_ms)
        answer: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        answer.set_result(self._next_offset)
        self._next_offset += batch.rows
        return answer


def load_entry(assignment: Assignment) -> Outcome:
    """As csv2kafka.fleet.work.load_entry; on a worker."""
    work.Parts = partial(Parts, sender_factory=Discarding)  # type: ignore[misc, assignment]
    return _load_entry(assignment)
