"""Batches into one partition, in order, each exactly once: prebuilt Produce requests under one producer epoch.

Sequences and bytes are fixed when a batch is handed over, one request is in flight, and a retriable failure leads
to the same bytes again. The first fatal failure stops everything behind it (a later batch that went through would be
a silent gap); whoever owns the sender then takes the partition over again.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass

from csv2kafka import failpoints, recordbatch
from csv2kafka.clock import boottime_s
from csv2kafka.errors import Csv2KafkaError, Fenced, JobConflict, Retryable, TopicError
from csv2kafka.kafka import protocol
from csv2kafka.kafka.client import BrokerError, Client, Partition, check
from csv2kafka.kafka.fence import PRODUCER_FENCED, ProducerEpoch
from csv2kafka.model import Batch, OwnMark

_LOG = logging.getLogger(__name__)
# A broker forgets a producer by its batches' times; sending old bytes again after it did would store them twice.
RESEND_LIMIT_S = 600.0
RENEW_AFTER_S = 12 * 3600.0
_MAX_SEQUENCE = 2**31 - 1
_TOO_LARGE = frozenset({10, 18})


class TakeOverAgain(Retryable):
    """This epoch can send no more, whatever was sent is doubtful: only the log itself can tell. Caught by the loop."""

    kind = "kafka"

    def __init__(self, message: str) -> None:
        super().__init__(message, hint="Run the same command again: the log itself tells where to go on.")


class EpochUsedUp(TakeOverAgain):
    """Nothing went wrong: this epoch is old, or out of sequences."""


@dataclass(frozen=True, slots=True)
class Footing:
    """What a take-over hands to its sender: the epoch, where the log ended, and what time it was on the broker."""

    target: Partition
    producer: ProducerEpoch
    next_offset: int
    timestamp_ms: int  # the broker's time ...
    since_s: float  # ... at this moment of the boottime clock
    own_offset: int | None = None  # of the newest marker or record of ours, if there is one


class Sender:
    """Sends to the partition of `footing` until `close`. `send` fixes order and bytes at once and does not block."""

    def __init__(self, client: Client, footing: Footing, *, clock_s: Callable[[], float] = boottime_s) -> None:
        self._client = client
        self._footing = footing
        self._clock_s = clock_s
        self._next_sequence = 0
        self._next_offset = footing.next_offset
        self._own_offset = footing.own_offset
        self._failure: BaseException | None = None
        self._turn = asyncio.Lock()  # fair: first come, first served, so order is kept
        self._throttled_until_s = 0.0
        self._throttled_s = 0.0
        self._waiting_since_s: float | None = None
        self.retries = 0
        self.foreign_records = 0  # of other programs, transaction markers included, between ours
        self.ack_latencies_s: list[float] = []  # one for each acknowledged request; whoever wants them takes them out

    @property
    def next_offset(self) -> int:
        """Behind everything acknowledged so far."""
        return self._next_offset

    @property
    def target(self) -> Partition:
        return self._footing.target

    @property
    def throttled_s(self) -> float:
        """How long sending was held back as the broker's quota wants it, a pause under way included."""
        waiting_s = 0.0 if self._waiting_since_s is None else self._clock_s() - self._waiting_since_s
        return self._throttled_s + waiting_s

    def mark_behind(self, last_own: OwnMark | None, rows: int) -> OwnMark:
        """What lies last in the log when `rows` more than at `last_own` have been acknowledged."""
        producer = self._footing.producer
        same = last_own and (last_own.producer_id, last_own.producer_epoch) == (producer.producer_id, producer.epoch)
        last_sequence = last_own.last_sequence if last_own and same else -1
        return OwnMark(producer.producer_id, producer.epoch, last_sequence + rows)

    def can_send(self, batch: Batch) -> bool:
        """False when the epoch is old, or its sequences would pass 2^31 - 1: take over again first."""
        age_s = self._clock_s() - self._footing.since_s
        return age_s < RENEW_AFTER_S and self._next_sequence + batch.rows <= _MAX_SEQUENCE

    def send(self, batch: Batch) -> asyncio.Future[int]:
        """Queue a batch; the result is the base offset that the broker gave it.

        The awaitable raises TakeOverAgain, Fenced, TopicError, JobConflict, Denied or KafkaUnavailable; after the
        first failure every later batch fails the same way, unsent.
        """
        producer = self._footing.producer
        sequence = self._next_sequence
        self._next_sequence += batch.rows
        elapsed_s = self._clock_s() - self._footing.since_s
        timestamp_ms = self._footing.timestamp_ms + int(elapsed_s * 1000)
        payload = recordbatch.seal(batch, producer.producer_id, producer.epoch, sequence, timestamp_ms)
        return asyncio.ensure_future(self._deliver(payload, batch.rows))

    def close(self) -> None:
        """Refuse everything that is still to be sent; a request in flight ends in its own time."""
        self._failure = self._failure or TakeOverAgain("the sender was closed")

    async def _deliver(self, payload: bytes, rows: int) -> int:
        async with self._turn:
            if self._failure is not None:
                raise self._failure
            try:
                base_offset = await self._send_until_acknowledged(payload)
                if base_offset < self._next_offset:
                    await self._client.confirm(self._footing.target)
                    raise JobConflict(
                        f"the broker acknowledged offset {base_offset} of {self._footing.target}, "
                        f"but {self._next_offset} or more was to come: acknowledged records were lost",
                        hint="Run the same command again: the log itself will be compared with the file.",
                    )
            except BaseException as error:
                self._failure = error
                raise
            self.foreign_records += base_offset - self._next_offset
            self._next_offset = base_offset + rows
            self._own_offset = self._next_offset - 1
            return base_offset

    async def _send_until_acknowledged(self, payload: bytes) -> int:
        first_sent_s = self._clock_s()
        what = f"sending to {self._footing.target}"
        attempts = 0

        async def attempt() -> int:
            nonlocal attempts
            if self._clock_s() - first_sent_s > RESEND_LIMIT_S:
                raise TakeOverAgain(f"{what}: unacknowledged for {RESEND_LIMIT_S:.0f} s")
            self.retries += attempts > 0
            attempts += 1
            await self._wait_for_quota()
            sent_s = self._clock_s()
            base_offset = await self._produce(payload, what)
            self.ack_latencies_s.append(self._clock_s() - sent_s)
            return base_offset

        return await self._client.persist(attempt, what)

    async def _produce(self, payload: bytes, what: str) -> int:
        target = self._footing.target
        timeout_ms = self._client.settings.request_timeout_ms
        failpoints.reach("batch_sending")
        failpoints.reach_soon("batch_sent")
        answer = await self._client.ask_leader(
            target, protocol.produce(target.topic, target.partition, payload, timeout_ms)
        )
        self._throttled_until_s = self._clock_s() + answer.throttle_time_ms / 1000
        _, code, base_offset, _, log_start_offset = answer.topics[0][1][0]
        try:
            check(code, what)
        except BrokerError as error:
            if error.retriable:
                raise
            raise self._fatal(error, len(payload)) from None
        if self._own_offset is not None and log_start_offset > self._own_offset:
            raise JobConflict(
                f"{target} begins at offset {log_start_offset} now: the records before it, the newest of this job at "
                f"{self._own_offset} among them, were purged or have expired while it was writing",
                hint="The topic does not keep what it acknowledges (DeleteRecords, or a retention of minutes). To load "
                "the file from row 1 again: csv2kafka reset JOB, then run again.",
            )
        return int(base_offset)

    def _fatal(self, error: BrokerError, size_bytes: int) -> Csv2KafkaError:
        if error.code in PRODUCER_FENCED:
            return Fenced(f"{error}", hint="Another instance of this job took the partition over; it goes on.")
        if error.code in _TOO_LARGE:
            return TopicError(
                f"the broker refused a batch of {size_bytes} bytes as too large: max.message.bytes of "
                f"{self._footing.target.topic} was lowered while the job ran",
                hint="Run the same command again: batches will be made to fit the new limit.",
            )
        return TakeOverAgain(str(error))

    async def _wait_for_quota(self) -> None:
        """A broker answers at once and reads nothing more for as long as it said (KIP-219): so send nothing."""
        pause_s = self._throttled_until_s - self._clock_s()
        if pause_s <= 0:
            return
        if self.throttled_s == 0:
            _LOG.debug("a quota holds back what is sent to %s, at first for %.2f s", self.target, pause_s)
        self._waiting_since_s = self._clock_s()
        try:
            await asyncio.sleep(pause_s)
        finally:
            self._throttled_s, self._waiting_since_s = self.throttled_s, None
