"""Shut every earlier instance of a job out of a partition, with the job's transactional id and an empty transaction.

InitProducerId gives a newer epoch but fences nobody by itself: a partition's leader learns of the epoch only from
something appended. The control marker that ends an (aborted, empty) transaction is that something. Once it lies in
the log, the leader refuses all older epochs, and of this epoch it takes only sequence 0 next.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass

from aiokafka.protocol.transaction import AddPartitionsToTxnRequest, EndTxnRequest, InitProducerIdRequest

from csv2kafka import failpoints
from csv2kafka.errors import Fenced
from csv2kafka.kafka import protocol
from csv2kafka.kafka.client import Client, Partition, check

_LOG = logging.getLogger(__name__)
_TRANSACTION_TIMEOUT_MS = 60_000
_ABORT = False
_PARTITIONS_TOLD = 12
_SUPERSEDED = frozenset({47, 48, 49, 90})  # epoch, transaction state or id mapping moved on: another instance started
_TOPIC_DENIED = 29
_NOT_ATTEMPTED = 55  # of the partitions of a request that failed for the sake of another
PRODUCER_FENCED = frozenset({47, 90})


@dataclass(frozen=True, slots=True)
class ProducerEpoch:
    producer_id: int
    epoch: int


def transactional_id(job_id: str, topic: str) -> str:
    """One for each job and topic: with the partition in it unrelated jobs would not fence, and ids would pile up."""
    return f"csv2kafka:{job_id}:{topic}"


async def new_epoch(client: Client, txn_id: str) -> ProducerEpoch:
    """A producer epoch above all earlier ones of this transactional id."""
    what = f"starting a producer epoch for {txn_id}"

    async def ask() -> ProducerEpoch:
        answer = await client.ask_coordinator(txn_id, InitProducerIdRequest(txn_id, _TRANSACTION_TIMEOUT_MS))
        check(answer.error_code, what)
        return ProducerEpoch(answer.producer_id, answer.producer_epoch)

    return await client.persist(ask, what)


async def new_producer_id(client: Client, txn_id: str, old: ProducerEpoch) -> ProducerEpoch:
    """Use up the rest of `old`'s epochs (some hundreds): then Kafka gives the transactional id a new producer id."""
    producer = old
    while producer.producer_id == old.producer_id:
        producer = await new_epoch(client, txn_id)
    return producer


async def unfenced_producer(client: Client) -> ProducerEpoch:
    """A producer id that nobody else has and no transactional id stands for: it shuts out nobody."""
    what = "starting an idempotent producer"

    async def ask() -> ProducerEpoch:
        answer = await client.ask_any(InitProducerIdRequest(None, _TRANSACTION_TIMEOUT_MS))
        check(answer.error_code, what, needs="IdempotentWrite")
        return ProducerEpoch(answer.producer_id, answer.producer_epoch)

    return await client.persist(ask, what)


async def append_markers(client: Client, txn_id: str, producer: ProducerEpoch, targets: Sequence[Partition]) -> None:
    """Have the coordinator append an abort marker of this epoch to each; they may reach the logs after this returns.

    Both requests may be repeated: there is one transaction for each epoch. Raises Fenced when a newer epoch exists.
    """
    what = f"fencing {', '.join(map(str, targets))}"
    topics: dict[str, list[int]] = {}
    for target in targets:
        topics.setdefault(target.topic, []).append(target.partition)

    async def add() -> None:
        answer = await client.ask_coordinator(
            txn_id, AddPartitionsToTxnRequest(txn_id, producer.producer_id, producer.epoch, [*topics.items()])
        )
        codes = [(code, topic) for topic, partition_errors in answer.errors for _, code in partition_errors]
        for code, topic in sorted(codes, key=lambda found: found[0] == _NOT_ATTEMPTED):
            _check_current(code, f"fencing {topic}" if code == _TOPIC_DENIED else what)

    async def end() -> None:
        answer = await client.ask_coordinator(
            txn_id, EndTxnRequest(txn_id, producer.producer_id, producer.epoch, _ABORT)
        )
        _check_current(answer.error_code, what)

    await client.persist(add, what)
    failpoints.reach("partition_added")
    await client.persist(end, what)
    failpoints.reach("marker_asked")
    _LOG.debug(
        "%s is now producer id %d, epoch %d in %s: what wrote before is shut out by a marker",
        txn_id,
        producer.producer_id,
        producer.epoch,
        ", ".join(map(str, targets[:_PARTITIONS_TOLD])) + (" ..." if len(targets) > _PARTITIONS_TOLD else ""),
    )


async def remembers(client: Client, producer_id: int, target: Partition) -> bool:
    """True when the partition's leader knows this producer id: this transactional id wrote there within a day."""
    what = f"asking for the producers of {target}"

    async def ask() -> bool:
        answer = await client.ask_leader(target, protocol.describe_producers(target.topic, target.partition))
        _, code, _, producers, _ = answer.topics[0][1][0]
        check(code, what, needs="Read")
        return any(producer[0] == producer_id for producer in producers)

    return await client.persist(ask, what)


def _check_current(code: int, what: str) -> None:
    if code in _SUPERSEDED:
        raise Fenced(
            f"{what}: another instance of this job took the partition over (error {code})",
            hint="Nothing is lost: the other instance goes on. Run again only if it has ended.",
        )
    check(code, what)
