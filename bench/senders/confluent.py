"""csv + json + confluent-kafka (librdkafka), pipelined as its documentation does it. See the package for the call."""

from __future__ import annotations

import sys
from pathlib import Path

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from bench.data import expected_values
from bench.senders import PATIENCE_S, timed

_SETTINGS = {"compression.type": "lz4", "acks": "all", "linger.ms": 50}


def main() -> None:
    bootstrap, topic, path, rows = sys.argv[1:]
    failures: list[KafkaError] = []

    def delivered(error: KafkaError | None, _message: Message) -> None:
        if error is not None:
            failures.append(error)

    producer = Producer({"bootstrap.servers": bootstrap, **_SETTINGS})
    producer.list_topics(topic, timeout=PATIENCE_S)
    with timed():
        for value in expected_values(Path(path), int(rows)):
            while True:
                try:
                    producer.produce(topic, value, partition=0, on_delivery=delivered)
                    break
                except BufferError:
                    producer.poll(0.1)
        unsent = producer.flush(PATIENCE_S)
    if failures:
        raise KafkaException(failures[0])
    if unsent:
        raise TimeoutError(f"{unsent} rows unsent")


if __name__ == "__main__":
    main()
