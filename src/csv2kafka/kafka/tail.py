"""What of ours lies in the log behind a checkpoint: read the batches' headers up to our marker, and count.

Counting headers is enough, and fast: sequences tell whether anything is missing, and only the last batch's records
are kept, for a comparison byte for byte. Nothing is appended here.
"""

from __future__ import annotations

import logging
import time
from collections.abc import AsyncGenerator, Iterable
from dataclasses import dataclass

from aiokafka.protocol.fetch import FetchRequest
from aiokafka.protocol.offset import OffsetRequest

from csv2kafka import recordbatch
from csv2kafka.clock import boottime_s
from csv2kafka.errors import JobConflict
from csv2kafka.kafka.client import BrokerError, Client, Partition, check
from csv2kafka.kafka.fence import ProducerEpoch
from csv2kafka.model import OwnMark
from csv2kafka.recordbatch import BatchHeader

_LOG = logging.getLogger(__name__)

_FETCH_BYTES = 8 << 20
_FETCH_WAIT_MS = 250
_READ_UNCOMMITTED = 0
_OFFSET_OUT_OF_RANGE = 1
_EARLIEST, _LATEST = -2, -1
_MAX_SEQUENCE = 2**31 - 1
_REQUEST_TIMED_OUT = 7


@dataclass(frozen=True, slots=True)
class OwnRows:
    """The job's rows behind a checkpoint. `last` is the newest mark of ours, before the position itself if no rows."""

    rows: int
    last: OwnMark | None
    last_batch: BatchHeader | None
    next_offset: int | None  # behind what `last` names, None where that lies before
    foreign_records: int


@dataclass(frozen=True, slots=True)
class Tail:
    """Everything between a checkpoint and the log's end; `last_records` are the last own batch's, compressed."""

    headers: tuple[BatchHeader, ...]
    last_records: bytes
    end_offset: int
    timestamp_ms: int  # the broker's time at the end, or this machine's where nothing of this moment tells it


async def log_range(client: Client, target: Partition) -> tuple[int, int]:
    """(first offset still there, offset behind the last record that all in-sync replicas have)."""
    what = f"asking for the offsets of {target}"

    async def ask(which: int) -> int:
        request = OffsetRequest(-1, _READ_UNCOMMITTED, [(target.topic, [(target.partition, which)])])
        answer = await client.ask_leader(target, request)
        _, code, *_, offset = answer.topics[0][1][0]
        check(code, what, needs="Describe")
        return int(offset)

    return await client.persist(lambda: ask(_EARLIEST), what), await client.persist(lambda: ask(_LATEST), what)


async def batch_at(client: Client, target: Partition, offset: int) -> BatchHeader | None:
    """The batch that holds this offset, which lies before the log's end; None where the log begins behind it."""
    what = f"reading {target} at offset {offset}"

    async def ask() -> bytes:
        data = await _fetch(client, target, offset, what)
        if not data:  # a leader just elected may not yet give out what it has
            raise BrokerError(_REQUEST_TIMED_OUT, what)
        return data

    for header, _ in recordbatch.headers(await client.persist(ask, what)):
        return header if header.base_offset <= offset < header.next_offset else None
    return None


class _Reading:
    """Batches from an offset on, as they come; what a Tail is made of."""

    def __init__(self, client: Client, target: Partition, from_offset: int, own_ids: Iterable[int], what: str) -> None:
        self._client = client
        self._target = target
        self._own = frozenset(own_ids)
        self._what = what
        self._found: list[BatchHeader] = []
        self._last_records = b""
        self._from_offset = self.offset = from_offset

    async def more(self, *, something: bool) -> list[BatchHeader]:
        """The job's own batches and markers among the next ones; `something`: wait until there are batches at all."""

        async def ask() -> bytes:
            data = await _fetch(self._client, self._target, self.offset, self._what)
            if something and not data:
                raise BrokerError(_REQUEST_TIMED_OUT, self._what)
            return data

        own: list[BatchHeader] = []
        for header, records in recordbatch.headers(await self._client.persist(ask, self._what)):
            if header.next_offset <= self.offset:
                continue  # a fetch begins with the whole batch that holds the offset
            self.offset = header.next_offset
            self._found.append(header)
            if header.producer_id in self._own:
                own.append(header)
                if not header.is_control:
                    self._last_records = bytes(records)
        return own

    def until(self, end_offset: int, timestamp_ms: int) -> Tail:
        found = tuple(header for header in self._found if header.next_offset <= end_offset)
        own = sum(header.producer_id in self._own and not header.is_control for header in found)
        _LOG.debug(
            "read %s from the checkpoint's offset %d to %d: %d batches, %d of them of this job with rows",
            self._target,
            self._from_offset,
            end_offset,
            len(found),
            own,
        )
        return Tail(found, self._last_records, end_offset, timestamp_ms)


async def read_to_marker(
    client: Client, target: Partition, from_offset: int, producer: ProducerEpoch, own_ids: Iterable[int]
) -> Tail:
    """Read from `from_offset` until the control batch of `producer`: nothing older can be appended behind it.

    Raises JobConflict when the log no longer has `from_offset`, KafkaUnavailable when the marker does not come.
    """
    what = f"waiting for our marker in {target}"
    reading = _Reading(client, target, from_offset, (*own_ids, producer.producer_id), what)
    while True:
        for header in await reading.more(something=True):
            if header.is_control and (header.producer_id, header.producer_epoch) == (
                producer.producer_id,
                producer.epoch,
            ):
                return reading.until(header.next_offset, header.max_timestamp_ms)


async def read_to_stable_end(
    client: Client, target: Partition, from_offset: int, own_ids: Iterable[int], *, still_s: float
) -> Tail:
    """Read from `from_offset` to the log's end, until for `still_s` nothing of ours came. It may come later, though."""
    _, end = await log_range(client, target)
    reading = _Reading(client, target, from_offset, own_ids, f"reading the end of {target}")
    last_own_s = boottime_s()
    while reading.offset < end or boottime_s() - last_own_s < still_s:
        if await reading.more(something=False):
            last_own_s = boottime_s()
    return reading.until(reading.offset, time.time_ns() // 1_000_000)


async def own_batches(
    client: Client, target: Partition, from_offset: int, until_offset: int, own_ids: tuple[int, ...] | None
) -> AsyncGenerator[tuple[BatchHeader, memoryview]]:
    """The job's own batches of these offsets (None: all), with their records as they are.

    Raises JobConflict where `from_offset` is gone.
    """
    what = f"reading {target}"
    offset = from_offset
    while offset < until_offset:
        data = await client.persist(lambda at=offset: _fetch(client, target, at, what), what)  # type: ignore[misc]
        for header, records in recordbatch.headers(data):
            offset = header.next_offset
            is_own = own_ids is None or header.producer_id in own_ids
            if is_own and not header.is_control and header.base_offset < until_offset:
                yield header, records


def reconcile(headers: Iterable[BatchHeader], own_ids: tuple[int, ...], last_own: OwnMark | None) -> OwnRows:
    """Count the rows in batches of `own_ids` (in the order they were used) behind `last_own`. Pure.

    In each epoch sequences begin at 0 and follow each other without a hole, epochs never fall, and markers of one
    epoch may repeat. Raises JobConflict for anything else: then the log is not what this job wrote.
    """
    mark = last_own
    rows = 0
    foreign = 0
    last_batch = None
    next_offset = None
    for header in headers:
        if header.producer_id not in own_ids:
            foreign += 0 if header.is_control else header.rows
            continue
        if mark and _rank(own_ids, header.producer_id, header.producer_epoch) < _rank(
            own_ids, mark.producer_id, mark.producer_epoch
        ):
            raise _broken(header, f"epoch {header.producer_epoch} comes after epoch {mark.producer_epoch}")
        same = mark and (mark.producer_id, mark.producer_epoch) == (header.producer_id, header.producer_epoch)
        if header.is_control:
            # One of the same epoch again is a coordinator's that had not noted the first; sequences go on behind it.
            if not same:
                mark = OwnMark(header.producer_id, header.producer_epoch, -1)
                next_offset = header.next_offset
            continue
        expected = (mark.last_sequence + 1) & _MAX_SEQUENCE if mark and same else 0
        if header.base_sequence != expected:
            raise _broken(header, f"its first sequence is {header.base_sequence}, {expected} was to come")
        if header.rows != header.last_offset_delta + 1:
            raise _broken(header, f"only {header.rows} of its {header.last_offset_delta + 1} records are left")
        rows += header.rows
        last_batch = header
        next_offset = header.next_offset
        mark = OwnMark(header.producer_id, header.producer_epoch, header.last_sequence)
    return OwnRows(rows, mark, last_batch, next_offset, foreign)


def _rank(own_ids: tuple[int, ...], producer_id: int, epoch: int) -> tuple[int, int]:
    return own_ids.index(producer_id), epoch


def _broken(header: BatchHeader, reason: str) -> JobConflict:
    return JobConflict(
        f"the batch at offset {header.base_offset} does not continue this job's rows: {reason}",
        hint="The topic was purged, or another program uses this job's producer id. Nothing was sent. To load the "
        "file from row 1 again (into a new topic): csv2kafka reset JOB, then run again.",
    )


async def _fetch(client: Client, target: Partition, offset: int, what: str) -> bytes:
    request = FetchRequest(
        _FETCH_WAIT_MS, 1, _FETCH_BYTES, _READ_UNCOMMITTED, [(target.topic, [(target.partition, offset, _FETCH_BYTES)])]
    )
    answer = await client.ask_leader(target, request)
    partition = answer.topics[0][1][0]
    code, data = partition[1], partition[-1]
    if code == _OFFSET_OUT_OF_RANGE:
        raise JobConflict(
            f"{target} no longer has offset {offset}, from which this job goes on: "
            "records were purged, expired, or lost in an unclean leader election",
            hint="What was written since the checkpoint cannot be proven. To load the file from row 1 again: "
            "csv2kafka reset JOB, then run again.",
        )
    check(code, what, needs="Read")
    return data or b""
