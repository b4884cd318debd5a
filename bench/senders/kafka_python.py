"""csv + json + kafka-python. See the package for the call; PENDING rows may be without an answer.

PENDING 0 waits for every row's answer before it sends the next row, as many programs do.
"""

from __future__ import annotations

import sys
from collections import deque
from pathlib import Path
from typing import Any

from kafka import KafkaProducer

from bench.data import expected_values
from bench.senders import PATIENCE_S, timed

_BATCHING = {"linger_ms": 50, "batch_size": 1 << 19}


def main() -> None:
    bootstrap, topic, path, rows, pending = sys.argv[1:]
    batching = _BATCHING if int(pending) else {}
    producer = KafkaProducer(bootstrap_servers=bootstrap, acks="all", compression_type="lz4", **batching)
    producer.partitions_for(topic)
    unanswered: deque[Any] = deque()
    with timed():
        for value in expected_values(Path(path), int(rows)):
            unanswered.append(producer.send(topic, value, partition=0))
            while len(unanswered) > int(pending):
                unanswered.popleft().get(PATIENCE_S)
        producer.flush(PATIENCE_S)
        for answer in unanswered:
            answer.get(PATIENCE_S)
    producer.close()


if __name__ == "__main__":
    main()
