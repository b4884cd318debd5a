"""The end of a partition's log, asked of the broker at each call, also while the broker is away."""

from __future__ import annotations

import time

from confluent_kafka import Consumer, KafkaException, TopicPartition

_ANSWER_S = 1.0
_PATIENCE_S = 60.0
_RENEW_S = 5.0


class Log:
    """Partition 0 of a topic. For one thread at a time."""

    def __init__(self, bootstrap: str, topic: str) -> None:
        self._bootstrap = bootstrap
        self._partition = TopicPartition(topic, 0)
        self._connect()

    def _connect(self) -> None:
        settings = {"bootstrap.servers": self._bootstrap, "group.id": "chaos", "log_level": 0}
        self._consumer = Consumer({**settings, "reconnect.backoff.ms": 50, "reconnect.backoff.max.ms": 200})
        self._answered_s = time.monotonic()

    def end_now(self) -> int | None:
        """The offset of the next record, None when the broker does not say."""
        try:
            end = int(self._consumer.get_watermark_offsets(self._partition, timeout=_ANSWER_S)[1])
        except KafkaException:
            if time.monotonic() - self._answered_s > _RENEW_S:
                # A client that saw the partition without a leader may keep to that for minutes.
                self._consumer.close()
                self._connect()
            return None
        self._answered_s = time.monotonic()
        return end

    def end(self) -> int:
        """As `end_now`, of a broker that is there or comes back soon."""
        deadline = time.monotonic() + _PATIENCE_S
        while time.monotonic() < deadline:
            end = self.end_now()
            if end is not None:
                return end
            time.sleep(0.05)
        raise TimeoutError(f"nobody told the end of {self._partition.topic} for {_PATIENCE_S:.0f} s")

    def close(self) -> None:
        self._consumer.close()
