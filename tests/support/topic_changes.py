"""Changes to a topic as its operators and other programs make them: limits, deletion, purges, foreign records.

Each returns when the broker acts by the change, so that a loader that goes on then meets it for certain.
"""

from __future__ import annotations

import time

from confluent_kafka import KafkaError, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource  # type: ignore[attr-defined]

from tests.support.admin import create_topic, topics
from tests.support.oracle import end_offset

PATIENCE_S = 30


class TopicChanges:
    """Acts on topics of one cluster. Kept open: librdkafka abandons a request whose client is gone."""

    def __init__(self, bootstrap: str) -> None:
        self.bootstrap = bootstrap
        self._admin = AdminClient({"bootstrap.servers": bootstrap, "log_level": 0})

    def configure(self, topic: str, name: str, value: str) -> None:
        """Set one of the topic's settings."""
        entry = ConfigEntry(name, value, incremental_operation=AlterConfigOpType.SET)
        wanted = ConfigResource(ConfigResource.Type.TOPIC, topic, incremental_configs=[entry])
        self._admin.incremental_alter_configs([wanted])[wanted].result(timeout=PATIENCE_S)
        resource = ConfigResource(ConfigResource.Type.TOPIC, topic)
        deadline_s = time.monotonic() + PATIENCE_S
        while self._admin.describe_configs([resource])[resource].result(timeout=PATIENCE_S)[name].value != value:
            assert time.monotonic() < deadline_s, f"{name} of {topic} did not become {value}"
        # The broker shows a setting a little before it acts by it. It takes changes in their order, so once it leads
        # a topic made later, it has come to this one.
        self.delete(create_topic(self.bootstrap))

    def delete(self, topic: str) -> None:
        """Delete a topic; returns when the cluster has none of this name."""
        self._admin.delete_topics([topic])[topic].result(timeout=PATIENCE_S)
        deadline_s = time.monotonic() + PATIENCE_S
        while topic in topics(self.bootstrap):
            assert time.monotonic() < deadline_s, f"{topic} is still there"

    def recreate(self, topic: str) -> None:
        """Delete a topic and make an empty one of the same name."""
        self.delete(topic)
        deadline_s = time.monotonic() + PATIENCE_S
        while True:
            try:
                create_topic(self.bootstrap, topic)
            except KafkaException as error:  # deleted for the controller, not everywhere yet
                if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS or time.monotonic() > deadline_s:
                    raise
            else:
                return

    def purge(self, topic: str, before: int | None = None) -> int:
        """Delete all records before an offset, or all there are; returns the first offset that is left."""
        before = end_offset(self.bootstrap, topic) if before is None else before
        place = TopicPartition(topic, 0, before)
        return int(self._admin.delete_records([place])[place].result(timeout=PATIENCE_S).low_watermark)

    def write_foreign(self, topic: str, values: list[bytes]) -> None:
        """Append records as another program would, and wait until they are acknowledged."""
        failures: list[object] = []
        producer = Producer({"bootstrap.servers": self.bootstrap, "log_level": 0, "linger.ms": 5})
        for value in values:
            producer.produce(topic, value, on_delivery=lambda error, _: failures.append(error) if error else None)
            producer.poll(0)
        assert producer.flush(PATIENCE_S) == 0
        assert not failures
