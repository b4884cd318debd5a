"""A partition as it lies in the files of a broker of our own: batches with their sequences, and markers, which no
consumer shows.
"""

from __future__ import annotations

from csv2kafka import recordbatch
from csv2kafka.devbroker import Broker
from csv2kafka.recordbatch import BatchHeader


def batches(broker: Broker, topic: str, partition: int = 0) -> list[BatchHeader]:
    """All whole batches and markers, in order."""
    segments = sorted((broker.data_dir / "log" / f"{topic}-{partition}").glob("*.log"))
    return [header for segment in segments for header, _ in recordbatch.headers(segment.read_bytes())]


def markers(broker: Broker, topic: str, partition: int = 0) -> list[BatchHeader]:
    return [header for header in batches(broker, topic, partition) if header.is_control]
