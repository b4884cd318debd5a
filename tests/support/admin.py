"""Creates topics and quotas with programs that share no code with ours (librdkafka, Kafka's own tools)."""

from __future__ import annotations

import os
import subprocess
import uuid
from collections.abc import Mapping

from confluent_kafka.admin import AdminClient, NewTopic  # type: ignore[attr-defined]

from csv2kafka.devbroker import Broker
from csv2kafka.javaenv import find_jars, find_java
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


def limit_client(broker: Broker, client_id: str, bytes_per_s: int) -> None:
    """Give clients of this id a quota for what they produce, as `kafka-configs.sh` does it; from now on it counts."""
    jars = os.pathsep.join(map(str, find_jars(f"org.apache.kafka:kafka_2.13:{broker.version}")))
    subprocess.run(
        [
            *(find_java(), "-XX:TieredStopAtLevel=1", "-cp", jars, "kafka.admin.ConfigCommand"),
            *("--bootstrap-server", broker.bootstrap, "--alter", "--entity-type", "clients"),
            *("--entity-name", client_id, "--add-config", f"producer_byte_rate={bytes_per_s}"),
        ],
        check=True,
        capture_output=True,
    )
    # The broker takes the cluster's changes in their order: once it leads a topic made later, it knows the quota.
    create_topic(broker.bootstrap)
