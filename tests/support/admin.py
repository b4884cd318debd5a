"""Creates topics with a client that shares no code with ours (librdkafka)."""

from __future__ import annotations

import uuid
from collections.abc import Mapping

from confluent_kafka.admin import AdminClient, NewTopic  # type: ignore[attr-defined]

from tests.support.oracle import end_offset


def create_topic(
    bootstrap: str,
    name: str | None = None,
    *,
    partitions: int = 1,
    config: Mapping[str, str] | None = None,
    replication: int = 1,
) -> str:
    """Create a topic (None: a name that nobody else has) and return its name once every partition has a leader."""
    name = name or f"t-{uuid.uuid4().hex[:12]}"
    admin = AdminClient({"bootstrap.servers": bootstrap, "log_level": 0})
    topic = NewTopic(name, num_partitions=partitions, replication_factor=replication, config=dict(config or {}))
    admin.create_topics([topic])[name].result(timeout=30)
    for partition in range(partitions):
        end_offset(bootstrap, name, partition)  # which waits for the leader
    return name


def topics(bootstrap: str) -> dict[str, int]:
    """The cluster's topics and how many partitions each has. Asking creates none."""
    found = AdminClient({"bootstrap.servers": bootstrap, "log_level": 0}).list_topics(timeout=30).topics
    return {name: len(topic.partitions) for name, topic in found.items()}
