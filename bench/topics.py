"""Topics for one measurement each, and the broker that holds them: made, counted and deleted with librdkafka."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from confluent_kafka.admin import AdminClient

from csv2kafka.devbroker import Broker
from tests.support.admin import create_topic
from tests.support.oracle import end_offset

# Topics of benchmarks are large: their segments leave the disk as they are deleted, not a minute later.
QUICK_DELETES = {"log.segment.delete.delay.ms": "0"}


class RowsMissing(Exception):
    """A program said that it was done, and the topic holds fewer records than it was given."""


def start_broker() -> Broker:
    """A broker for measurements."""
    return Broker(heap_mb=1024, properties=QUICK_DELETES)


@contextmanager
def fresh_topic(bootstrap: str, name: str | None = None) -> Iterator[str]:
    """A topic of one partition with the broker's own settings, deleted afterwards."""
    topic = create_topic(bootstrap, name)
    try:
        yield topic
    finally:
        admin = AdminClient({"bootstrap.servers": bootstrap, "log_level": 0})
        admin.delete_topics([topic])[topic].result(timeout=60)


def check_rows(bootstrap: str, topic: str, rows: int) -> None:
    """Raise RowsMissing for fewer than `rows` records (control records count, so more is no fault)."""
    found = end_offset(bootstrap, topic)
    if found < rows:
        raise RowsMissing(f"{topic} holds {found:,} records of {rows:,}")
