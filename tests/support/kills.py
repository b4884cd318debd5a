"""Kill a loader again and again, at moments chosen by what it has already put into the topic, until it is through."""

from __future__ import annotations

import random
import subprocess
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass

from confluent_kafka import Consumer, TopicPartition


@dataclass(frozen=True, slots=True)
class Kill:
    """A SIGKILL of a loader that had moved the partition's end since it started, and was not through."""

    end_before: int
    end_after: int


class EndOffset:
    """The end of partition 0, or of all the first ones together, asked of the broker at each call."""

    def __init__(self, bootstrap: str, topic: str, partitions: int = 1) -> None:
        self._consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": "end-offset", "log_level": 0})
        self._partitions = [TopicPartition(topic, partition) for partition in range(partitions)]

    def __call__(self) -> int:
        return sum(int(self._consumer.get_watermark_offsets(each, timeout=30)[1]) for each in self._partitions)

    def close(self) -> None:
        self._consumer.close()


def load_through_kills(
    start: Callable[[], subprocess.Popen[str]],
    bootstrap: str,
    topic: str,
    *,
    partitions: int = 1,
    kills: int,
    rows: int,
    rng: random.Random,
) -> list[Kill]:
    """Start the loader, kill it once it sent a random share of the rows; `kills` times, then let it finish.

    The share is one that leaves work for the kills to come, so the outcome does not hang on anybody's speed.
    Returns the kills that count. Raises AssertionError when a loader ends with an exit code other than 0.
    """
    counted: list[Kill] = []
    with closing(EndOffset(bootstrap, topic, partitions)) as end_offset:
        while True:
            before = end_offset()
            loader = start()
            if len(counted) == kills:
                break
            goal = before + 2 + rng.randrange(rows // (kills + 2))  # a take-over's marker alone does not count
            end = before
            while end < goal and not _has_ended(loader):
                end = end_offset()
            if loader.poll() is not None:
                break
            loader.kill()
            loader.communicate()
            counted.append(Kill(before, end_offset()))
    _finish(loader)
    return counted


def _has_ended(loader: subprocess.Popen[str]) -> bool:
    """Looks for a few milliseconds: without a pause between questions, asking would take a core of its own."""
    try:
        loader.wait(timeout=0.004)
    except subprocess.TimeoutExpired:
        return False
    return True


def _finish(loader: subprocess.Popen[str]) -> None:
    _, stderr = loader.communicate(timeout=120)
    assert loader.returncode == 0, stderr
