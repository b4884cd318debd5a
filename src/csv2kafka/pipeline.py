"""The one loop: read, split, encode, send, move the one safe position. Also its clockwork: sampling, recovery, stop.

    source -> splitter (one thread) -> encoder (threads, order kept) -> sender -> acknowledgements -> checkpoint

Only this module moves the safe position, and only by acknowledged batches; the keeper saves it. Whatever makes a send
doubtful ends in `take_over`, which asks the log.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np

from csv2kafka import failpoints, logs, quarantine
from csv2kafka.encoder import Encoded
from csv2kafka.errors import BadData, CheckpointUnavailable, ConfigError, Csv2KafkaError, Fenced
from csv2kafka.kafka.client import Client
from csv2kafka.kafka.sender import EpochUsedUp, Footing, Sender, TakeOverAgain
from csv2kafka.metrics import MetricsSink
from csv2kafka.model import Block, Checkpoint, JobStatus, Portion, Position, Quarantine
from csv2kafka.pace import Pace
from csv2kafka.recordbatch import checksum
from csv2kafka.splitter import split
from csv2kafka.takeover import Job, take_over
from csv2kafka.threads import close, in_thread, started_pool
from csv2kafka.tracker import Progress

_LOG = logging.getLogger(__name__)

MAX_RECOVERIES = 20  # of one run
MAX_IN_VAIN = 6  # in a row, none of which got a row acknowledged: about a minute
_LONGEST_PAUSE_S = 30.0
_LOOK_EVERY_S = 10.0  # whether the topic is still the same
_BLOCKS_AHEAD = 3  # encoded or being encoded, waiting for their turn
_ENCODERS = max(1, min(4, os.cpu_count() or 1))
_DRAIN_S = 6.0  # after a stop: how long acknowledgements are waited for, within the 10 s that a stop may take
_NO_BLOCK = None

SenderFactory = Callable[[Client, Footing], Sender]


class StopFlag(Protocol):
    """Set from a signal handler, polled here (a threading.Event will do)."""

    def is_set(self) -> bool: ...


@dataclass(frozen=True, slots=True)
class _Sent:
    """A portion under way, with the base offsets to come, one for each of its batches."""

    portion: Portion
    answers: tuple[asyncio.Future[int], ...]


class Pipeline:
    """One run of one job whose lease is held. `run` returns once; then look at `checkpoint` and `progress`."""

    def __init__(
        self,
        job: Job,
        found: Checkpoint | None,
        *,
        sinks: Sequence[MetricsSink] = (),
        stop: StopFlag,
        began_s: float,
        checkpoint_interval_rows: int | None = None,
        max_bytes_per_s: int | None = None,
        rows_total: int | None = None,
        sender_factory: SenderFactory = Sender,
    ) -> None:
        self.checkpoint = found
        self._job = job
        self._sinks = sinks
        self._keeper = job.keeper
        self._stop = stop
        self._interval_rows = checkpoint_interval_rows
        self._pace = Pace(max_bytes_per_s)
        self._rows_total = rows_total
        self._sender_factory = sender_factory
        self._has_taken_over = False
        self._foreign_told = False
        self._reader = started_pool(1, "csv2kafka-read")
        self._encoders = started_pool(_ENCODERS, "csv2kafka-encode")
        self.progress = Progress(began_s, began_s, bytes_before=0, rows_before=found.rows if found else 0)

    async def run(self) -> bool:
        """Load until the end of the file (True) or until told to stop (False). Everything acknowledged is saved."""
        try:
            finished = await self._run_until_told_to_stop()
        except Csv2KafkaError as error:
            if self._has_taken_over:
                await self._save_failure(error)
            self._sample()
            raise
        finally:
            self._reader.shutdown(wait=False)
            self._encoders.shutdown(wait=False, cancel_futures=True)
        failpoints.reach("all_acked")
        await self._save_last(JobStatus.COMPLETED if finished else JobStatus.IN_PROGRESS)
        failpoints.reach("job_completed")
        self._sample()
        return finished

    async def _run_until_told_to_stop(self) -> bool:
        """Once told to stop, what is under way has a while to come in, no longer: the log can tell later."""
        work = asyncio.create_task(self._run_until_end())
        try:
            while not self._stop.is_set():
                if await self._is_over(work, 0.1):
                    return await work
            return await self._is_over(work, _DRAIN_S) and await work
        finally:
            work.cancel()
            await asyncio.gather(work, return_exceptions=True)

    async def _is_over(self, work: asyncio.Task[bool], timeout_s: float) -> bool:
        """Wait for the work's end. Raises what took the lease or the checkpoint store away."""
        keeping = self._keeper.keeping
        done, _ = await asyncio.wait((work, keeping), timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
        if keeping in done and work not in done:
            await keeping
        return work in done

    async def _run_until_end(self) -> bool:
        in_vain = 0
        while True:
            rows = self.checkpoint.last_line if self.checkpoint else 0
            try:
                finished = await self._one_epoch()
                if finished:
                    # A topic deleted and made again under a run takes its batches, too, and nothing looks wrong.
                    await self._confirm_topics()
                return finished
            except EpochUsedUp as error:
                _LOG.info("taking the partition over again: %s", error)
                in_vain = 0
            except (TakeOverAgain, Fenced) as error:
                # Raises Fenced where the lease is not ours any more: another instance goes on, this one must not.
                await self._keeper.confirm()
                moved = self.checkpoint is not None and self.checkpoint.last_line > rows
                in_vain = 0 if moved else in_vain + 1
                self.progress.survived(error)
                if self.progress.recoveries > MAX_RECOVERIES or in_vain > MAX_IN_VAIN:
                    raise
                _LOG.warning("taking the partition over again: %s", error)
            await asyncio.sleep(pause_before_takeover_s(in_vain))

    async def _one_epoch(self) -> bool:
        """Take over, then send until the end, a stop, or a failure that only another take-over can cure."""
        self.progress.takeovers += 1
        standing = await take_over(self._job, self.checkpoint)
        self.checkpoint = standing.checkpoint
        self.progress.foreign_records += standing.foreign_records
        if not self._has_taken_over:
            self._has_taken_over = True
            self.progress.begin(standing.checkpoint, self._job.source)
        senders = tuple(self._sender_factory(self._job.client, footing) for footing in standing.footings)
        tasks: list[asyncio.Task[Any]] = [
            asyncio.create_task(part)
            for part in (self._pump(senders, standing.checkpoint), self._tick(senders), self._watch_topics())
        ]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for sender in senders:
                sender.close()
            for task in tasks:
                if not task.done():
                    task.cancel()
            outcomes = await asyncio.gather(*tasks, return_exceptions=True)
            self.progress.end_epoch(senders)
        return _first_failure_or(outcomes)

    async def _pump(self, senders: Sequence[Sender], checkpoint: Checkpoint) -> bool:
        queue: asyncio.Queue[Awaitable[Encoded] | None] = asyncio.Queue(_BLOCKS_AHEAD)
        feeder = asyncio.create_task(self._feed(queue, checkpoint))
        unacknowledged: deque[_Sent] = deque()
        bad_rows = checkpoint.quarantine.rows if checkpoint.quarantine else 0
        tolerance = self._job.bad_rows.tolerance
        try:
            while (encoding := await queue.get()) is not _NO_BLOCK:
                try:
                    encoded = await encoding
                except Csv2KafkaError:  # nothing more can be read; what was sent before counts all the same
                    await self._acknowledge(senders, unacknowledged, keep=0)
                    raise
                failpoints.reach("block_encoded")
                bad: BadData | None = encoded.bad
                for portion in encoded.portions:
                    bad_rows += len(portion.bad_rows)
                    too_many = tolerance.excess(bad_rows, portion.end.row - self._job.start.row, is_end=False)
                    if too_many is not None:
                        bad = too_many
                        break
                    await self._pace.take(sum(batch.size_bytes for batch in portion.batches))
                    await self._keeper.held()
                    if not all(senders[batch.lane].can_send(batch) for batch in portion.batches):
                        await self._acknowledge(senders, unacknowledged, keep=0)
                        raise EpochUsedUp("this producer epoch is used up or 12 hours old")
                    answers = tuple(senders[batch.lane].send(batch) for batch in portion.batches)
                    unacknowledged.append(_Sent(portion, answers))
                    # One more than is in flight: the next request is ready when the answer comes.
                    await self._acknowledge(senders, unacknowledged, keep=1)
                if bad is not None:
                    await self._acknowledge(senders, unacknowledged, keep=0)
                    raise bad
            await self._acknowledge(senders, unacknowledged, keep=0)
            is_end = await feeder
            if (
                is_end
                and self.checkpoint
                and (too_many := tolerance.excess(bad_rows, self.checkpoint.rows, is_end=True))
            ):
                raise too_many
            return is_end
        finally:
            # What is still under way is doubtful from here on, and the next take-over asks the log about it.
            abandoned: list[asyncio.Future[Any]] = [
                feeder,
                *(answer for sent in unacknowledged for answer in sent.answers),
            ]
            for task in abandoned:
                task.cancel()
            await asyncio.gather(*abandoned, return_exceptions=True)

    async def _feed(self, queue: asyncio.Queue[Awaitable[Encoded] | None], checkpoint: Checkpoint) -> bool:
        """Put blocks being encoded into the queue, in order; a failure to read comes in its place. True: at the end."""
        loop = asyncio.get_running_loop()
        job = self._job
        start = Position(checkpoint.last_line, checkpoint.byte_offset or 0)
        ahead = np.array([lane.ahead_rows for lane in checkpoint.log.lanes] if checkpoint.log else [], dtype=np.int64)
        chunks = job.source.read_from(start.byte_offset)
        blocks = split(chunks, start, job.encoder.dialect, lambda: job.encoder.block_bytes)
        reached_end = False
        try:
            while not self._stop.is_set():
                block: Block | None = await loop.run_in_executor(self._reader, next, blocks, None)
                if block is None:
                    reached_end = True
                    break
                failpoints.reach("block_read")
                if ahead.any():  # each block must know how many the ones before it left out
                    encoding = loop.run_in_executor(self._encoders, job.encoder.encode, block, ahead)
                    await asyncio.wait((encoding,))
                else:
                    encoding = loop.run_in_executor(self._encoders, job.encoder.encode, block)
                await queue.put(encoding)
        except Exception as error:  # noqa: BLE001 - raised by the pump, which would wait for ever if this task just died
            failed: asyncio.Future[Encoded] = loop.create_future()
            failed.set_exception(error)
            failed.exception()  # looked at, for asyncio: an earlier bad row may end the pump before it comes to this
            await queue.put(failed)
        finally:
            self._reader.submit(close, blocks, chunks)
        await queue.put(_NO_BLOCK)
        return reached_end

    async def _acknowledge(self, senders: Sequence[Sender], unacknowledged: deque[_Sent], *, keep: int) -> None:
        """Wait until at most `keep` portions are without all their answers; each moves the safe position."""
        while len(unacknowledged) > keep:
            sent = unacknowledged[0]
            offsets = await _all(sent.answers)
            failpoints.reach("batch_acked")
            unacknowledged.popleft()
            if self.progress.startup_s is None:
                self.progress.startup_s = time.monotonic() - self.progress.began_s
            self._advance(sent.portion, offsets, senders, await self._set_apart(sent.portion))
            failpoints.reach("position_moved")

    async def _set_apart(self, portion: Portion) -> Quarantine | None:
        """What the quarantine holds with the portion's bad rows. Those for a topic were sent like the others."""
        known = self.checkpoint.quarantine if self.checkpoint else None
        if known is None or not portion.bad_rows:
            return known
        file, file_bytes = self._job.bad_rows.file, known.file_bytes
        if file is not None:
            file_bytes = await in_thread(file.write, portion.bad_rows, file_bytes)
        return quarantine.plus(known, portion.bad_rows, file_bytes)

    def _advance(
        self, portion: Portion, offsets: Sequence[int], senders: Sequence[Sender], bad: Quarantine | None
    ) -> None:
        checkpoint = self.checkpoint
        if checkpoint is None or checkpoint.log is None:
            raise AssertionError("a take-over leaves a checkpoint with a place in the log")
        if portion.start.row != checkpoint.last_line:
            raise AssertionError(f"row {portion.start.row} was acknowledged after row {checkpoint.last_line}")
        lanes = list(checkpoint.log.lanes)
        for batch, base_offset in zip(portion.batches, offsets, strict=True):
            lane, sender = lanes[batch.lane], senders[batch.lane]
            lanes[batch.lane] = replace(
                lane,
                next_offset=base_offset + batch.rows,
                last_own=sender.mark_behind(lane.last_own, batch.rows),
            )
            self._tell_of_others(sender)
        for number, ahead_rows in enumerate(portion.ahead_rows):
            lanes[number] = replace(lanes[number], ahead_rows=ahead_rows)
        self.checkpoint = replace(
            checkpoint,
            last_line=portion.end.row,
            byte_offset=portion.end.byte_offset,
            restart=self._job.source.restart_before(portion.end.byte_offset),
            crc32c=None if checkpoint.crc32c is None else checksum(portion.text, checkpoint.crc32c),
            rows_per_s=self.progress.rows_per_s(portion.end.row - self._job.start.row),
            total_sent=checkpoint.total_sent + portion.rows - len(portion.bad_rows),
            quarantine=bad,
            log=replace(checkpoint.log, lanes=tuple(lanes)),
        )
        logs.whereabouts.update(row=portion.end.row, offset=lanes[0].next_offset - 1)
        saved = self._keeper.saved
        due = self._interval_rows and saved and portion.end.row - saved.last_line >= self._interval_rows
        self._keeper.offer(self.checkpoint, at_once=bool(due))

    def _tell_of_others(self, sender: Sender) -> None:
        if sender.foreign_records and not self._foreign_told:
            self._foreign_told = True
            _LOG.warning("other programs write to %s as well: they lie between the rows", sender.target)

    async def _save_last(self, status: JobStatus) -> None:
        if self.checkpoint is not None:
            self.checkpoint = replace(self.checkpoint, status=status, last_error=None)
            await self._keeper.save(self.checkpoint)

    async def _save_failure(self, error: Csv2KafkaError) -> None:
        """Say in the store what ended the run, unless the store itself did or the job is somebody else's now."""
        if self.checkpoint is None or isinstance(error, Fenced | CheckpointUnavailable):
            return
        is_final = isinstance(error, BadData | ConfigError)
        status = JobStatus.FAILED if is_final else JobStatus.IN_PROGRESS
        self.checkpoint = replace(self.checkpoint, status=status, last_error=error.message)
        with nullcontext() if is_final else suppress(Csv2KafkaError):
            await self._keeper.save(self.checkpoint)

    async def _watch_topics(self) -> None:
        while True:
            await asyncio.sleep(_LOOK_EVERY_S)
            await self._confirm_topics()

    async def _confirm_topics(self) -> None:
        for target in {target.partition.topic: target for target in self._job.targets}.values():
            await self._job.client.confirm(target.partition)

    async def _tick(self, senders: Sequence[Sender]) -> None:
        while True:
            await asyncio.sleep(0.5 if self.progress.startup_s is None else 1.0)
            self._sample(senders)

    def _sample(self, senders: Sequence[Sender] = ()) -> None:
        """Tell the sinks; the last time when all is over, so that they know the end and hear of the shortest run."""
        if self.checkpoint is None or not self._has_taken_over:
            return
        sample = self.progress.sample(
            self.checkpoint, self._job.source, self._keeper, senders, rows_total=self._rows_total
        )
        for sink in self._sinks:
            sink.record(sample)


async def _all(answers: Sequence[asyncio.Future[int]]) -> list[int]:
    """Every answer; the first failure is raised when all have come to an end."""
    if len(answers) == 1:
        return [await answers[0]]
    outcomes = await asyncio.gather(*answers, return_exceptions=True)
    for outcome in outcomes:
        if isinstance(outcome, BaseException):
            raise outcome
    return [outcome for outcome in outcomes if isinstance(outcome, int)]


def pause_before_takeover_s(in_vain: int) -> float:
    """How long to wait after so many take-overs in a row that got no row acknowledged."""
    return min(2.0**in_vain, _LONGEST_PAUSE_S)


def _first_failure_or(outcomes: Sequence[object]) -> bool:
    """The pump's outcome (the first), unless one of the others failed."""
    for outcome in outcomes:
        if isinstance(outcome, Exception):
            raise outcome
    return outcomes[0] is True
