"""Which file goes to which partition, and which one is loaded next. Pure.

A partition takes one load at a time: a file's records then lie side by side, and nobody else's between them.
"""

from __future__ import annotations

import hashlib
from collections import Counter, deque
from collections.abc import Collection, Mapping, Sequence

from csv2kafka.fleet.manifest import SINGLE, Entry, Manifest, Placement
from csv2kafka.model import SourceIdentity


def partitions_for(sources: Sequence[SourceIdentity], placement: Placement, partitions: int) -> list[int]:
    """A partition for each file, of `partitions` that the topic has. By hash, it hangs on the file's name alone."""
    if placement == SINGLE:
        return [0] * len(sources)
    if placement == "hash":
        digests = (hashlib.sha256(source.uri.encode("utf-8", "surrogateescape")).digest() for source in sources)
        return [int.from_bytes(digest[:8]) % partitions for digest in digests]
    return [number % partitions for number in range(len(sources))]


class Queue:
    """What is left to do, handed out so that the longest work begins first and no partition or broker gets too much.

    begun: indexes of entries that an earlier run left half done; they come first in their partition.
    leaders: the broker that leads each partition. per_broker: the most loads at a time into one broker's partitions.
    """

    def __init__(
        self,
        manifest: Manifest,
        done: Collection[int],
        *,
        begun: Collection[int] = (),
        leaders: Mapping[int, int],
        per_broker: int | None = None,
    ) -> None:
        self._leaders = leaders
        self._per_broker = per_broker
        self._is_single = manifest.placement == SINGLE
        self._busy: Counter[int] = Counter()  # loads by broker
        left = [entry for entry in manifest.entries if entry.index not in done]
        if not self._is_single:
            left.sort(key=lambda entry: (entry.index not in begun, -entry.size_bytes, entry.index))
        self._lanes: dict[int, deque[Entry]] = {}
        for entry in left:
            self._lanes.setdefault(entry.partition, deque()).append(entry)
        self._left_bytes = {number: sum(entry.size_bytes for entry in lane) for number, lane in self._lanes.items()}
        self._free = set(self._lanes)

    def __len__(self) -> int:
        """Entries not handed out yet."""
        return sum(map(len, self._lanes.values()))

    def next(self) -> Entry | None:
        """Hand out one of the partition with the most to do; None while those or their brokers are busy."""
        able = [number for number in self._free if self._lanes[number] and self._has_room(number)]
        if not able:
            return None
        number = max(able, key=lambda number: (self._left_bytes[number], -number))
        entry = self._lanes[number].popleft()
        self._free.remove(number)
        self._busy[self._leaders.get(number, -1)] += 1
        self._left_bytes[number] -= entry.size_bytes
        return entry

    def done(self, entry: Entry) -> None:
        """The entry is loaded, or given up where those behind it may go on all the same."""
        self._free.add(entry.partition)
        self._busy[self._leaders.get(entry.partition, -1)] -= 1

    def give_up(self, entry: Entry) -> tuple[Entry, ...]:
        """The entry failed. Those behind it that must not overtake it are taken out of the queue."""
        self.done(entry)
        if not self._is_single:
            return ()
        lane = self._lanes[entry.partition]
        left = tuple(lane)
        lane.clear()
        return left

    def _has_room(self, number: int) -> bool:
        return self._per_broker is None or self._busy[self._leaders.get(number, -1)] < self._per_broker
