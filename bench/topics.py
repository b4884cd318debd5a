"""Topics for one measurement each, and the broker that holds them: made, counted and deleted with librdkafka."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient, NewTopic  # type: ignore[attr-defined]

from csv2kafka.devbroker import Broker
from tests.support.oracle import end_offset

# Topics of benchmarks are large: their segments leave the disk as they are deleted, not a minute later.
QUICK_DELETES = {"log.segment.delete.delay.ms": "0"}
_PATIENCE_S = 60.0


class RowsMissing(Exception):
    """A program said that it was done, and the topic holds fewer records than it was given."""


def start_broker() -> Broker:
    """A broker for measurements."""
    return Broker(heap_mb=1024, properties=QUICK_DELETES)


@contextmanager
def fresh_topic(bootstrap: str, partitions: int = 1) -> Iterator[str]:
    """A topic with the broker's own settings, ready to be written to; deleted afterwards."""
    admin = AdminClient({"bootstrap.servers": bootstrap, "log_level": 0})
    name = f"bench-{uuid.uuid4().hex[:12]}"
    admin.create_topics([NewTopic(name, num_partitions=partitions, replication_factor=1)])[name].result(_PATIENCE_S)
    try:
        for partition in range(partitions):
            _wait_for_leader(bootstrap, name, partition)
        yield name
    finally:
        admin.delete_topics([name])[name].result(_PATIENCE_S)


def _wait_for_leader(bootstrap: str, topic: str, partition: int) -> None:
    """Until the leader answers: brokers name a new topic, and its leader, a little before that."""
    deadline_s = time.monotonic() + _PATIENCE_S
    while True:
        try:
            end_offset(bootstrap, topic, partition)
            return
        except KafkaException:
            if time.monotonic() > deadline_s:
                raise
            time.sleep(0.02)


def check_rows(bootstrap: str, topic: str, rows: int, partitions: int = 1) -> None:
    """Raise RowsMissing for fewer than `rows` records (control records count, so more is no fault)."""
    found = sum(end_offset(bootstrap, topic, partition) for partition in range(partitions))
    if found < rows:
        raise RowsMissing(f"{topic} holds {found:,} records of {rows:,}")
