"""Keeps a job's lease alive and its safe position saved, beside everything else: the only caller of the store while
a job runs.

A store that does not answer is asked again. Meanwhile the lease may run out and somebody else take it, so `held` lets
nobody send from `FRESH_S` after the last answer on until the next one; that tells whether the lease is still ours.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from typing import Self

from csv2kafka import failpoints
from csv2kafka.checkpoints import CheckpointStore
from csv2kafka.clock import boottime_s
from csv2kafka.errors import CheckpointUnavailable
from csv2kafka.model import Checkpoint
from csv2kafka.threads import in_thread

_LOG = logging.getLogger(__name__)

SAVE_EVERY_S = 1.0
FRESH_S = 8.0  # a lease not renewed for 10 s may be taken by somebody else
_ASK_AGAIN_S = 1.0


class Keeper:
    """Saves what it is offered about once a second, or renews the lease, from entering to leaving its context.

    store: holds the job's lease, taken just now; found: the checkpoint it returned.
    patience_s: how long a store may be away before its error is raised.
    """

    def __init__(
        self,
        store: CheckpointStore,
        found: Checkpoint | None,
        *,
        patience_s: float,
        clock_s: Callable[[], float] = boottime_s,
    ) -> None:
        self.saved = found
        self.saves = 0
        self.failures = 0  # calls that the store did not answer
        self._store = store
        self._patience_s = patience_s
        self._clock_s = clock_s
        self._offered = found
        self._hurry = asyncio.Event()
        self._turn = asyncio.Lock()
        self._answered_s = clock_s()
        self._answered = asyncio.Event()

    @property
    def age_s(self) -> float:
        """Since the store last took the newest checkpoint, or said that it has it."""
        return self._clock_s() - self._answered_s

    async def __aenter__(self) -> Self:
        self.keeping = asyncio.create_task(self._keep())  # ends only by failing
        return self

    async def __aexit__(self, *_: object) -> None:
        self.keeping.cancel()
        await asyncio.gather(self.keeping, return_exceptions=True)

    def offer(self, checkpoint: Checkpoint, *, at_once: bool = False) -> None:
        """The newest safe position: saved within a second."""
        self._offered = checkpoint
        if at_once:
            self._hurry.set()

    async def save(self, checkpoint: Checkpoint) -> None:
        """Return when it is saved. Raises Fenced, CheckpointUnavailable after `patience_s`, and what a store raises."""
        self._offered = checkpoint
        await self._write()

    async def confirm(self) -> None:
        """Return when the store has said that the lease is ours. Raises as `save` does."""
        await self._write()

    async def held(self) -> None:
        """Return at once while nobody else can hold the lease, otherwise when it is known to be still ours.

        Whoever waits here must watch `keeping`, too: it fails when the lease is lost.
        """
        if self._clock_s() - self._answered_s < FRESH_S:
            return
        _LOG.warning("sending pauses until the checkpoint store says that this job is still ours")
        while self._clock_s() - self._answered_s >= FRESH_S:
            self._answered.clear()
            await self._answered.wait()
        _LOG.info("sending goes on")

    async def _keep(self) -> None:
        while True:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._hurry.wait(), SAVE_EVERY_S)
            self._hurry.clear()
            await self._write()

    async def _write(self) -> None:
        async with self._turn:
            while True:
                asked_s = self._clock_s()
                try:
                    await self._save_or_renew()
                except CheckpointUnavailable as error:
                    self.failures += 1
                    if self._clock_s() - self._answered_s > self._patience_s:
                        raise
                    _LOG.warning("the checkpoint store does not answer, trying again: %s", error)
                else:
                    self._answered_s = asked_s
                    self._answered.set()
                    return
                await asyncio.sleep(_ASK_AGAIN_S)

    async def _save_or_renew(self) -> None:
        checkpoint = self._offered
        if checkpoint is None or checkpoint == self.saved:
            await in_thread(self._store.renew)
            return
        failpoints.reach("checkpoint_saving")
        await in_thread(self._store.save, checkpoint)
        failpoints.reach("checkpoint_saved")
        self.saved = checkpoint
        self.saves += 1
