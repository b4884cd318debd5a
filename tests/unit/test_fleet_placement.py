"""Where files go, and in which order they are handed out."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from csv2kafka.fleet.manifest import Entry, Manifest, Placement
from csv2kafka.fleet.placement import Queue, partitions_for
from csv2kafka.model import SourceIdentity

LEADERS = {0: 1, 1: 2, 2: 1, 3: 2}
FILES = [SourceIdentity(f"s3://bucket/{n}.csv", 10, "etag") for n in range(200)]


def fleet(*files: tuple[int, int], placement: Placement = "round-robin") -> Manifest:
    """Of files, each with its partition and size in bytes."""
    entries = tuple(
        Entry(index, SourceIdentity(f"{index}.csv", size, "etag"), partition)
        for index, (partition, size) in enumerate(files)
    )
    return Manifest("nightly", "in/", "orders", placement, "2026-01-16T00:00:00+00:00", entries)


def handed_out(queue: Queue) -> list[int]:
    """All that may be under way at once."""
    return [entry.index for entry in iter(queue.next, None)]


def one_by_one(queue: Queue) -> list[int]:
    order = []
    while (entry := queue.next()) is not None:
        order.append(entry.index)
        queue.done(entry)
    return order


def test_round_robin_gives_each_partition_as_many() -> None:
    assert partitions_for(FILES[:7], "round-robin", 3) == [0, 1, 2, 0, 1, 2, 0]


def test_single_is_one_partition() -> None:
    assert partitions_for(FILES[:3], "single", 8) == [0, 0, 0]


def test_by_hash_a_file_keeps_its_partition_whatever_others_there_are() -> None:
    places = partitions_for(FILES, "hash", 8)
    assert partitions_for(FILES[3::-1], "hash", 8) == places[3::-1]
    assert partitions_for([replace(FILES[7], etag="other", size_bytes=99)], "hash", 8) == [places[7]]
    assert set(places) == set(range(8))
    assert places[:6] == [5, 3, 2, 1, 0, 0]  # on whatever machine


def test_the_longest_begins_first() -> None:
    queue = Queue(fleet((0, 5), (1, 90), (0, 70), (1, 1)), (), leaders=LEADERS)
    assert handed_out(queue) == [1, 2]
    assert len(queue) == 2


def test_the_partition_with_the_most_left_comes_first() -> None:
    queue = Queue(fleet((0, 50), (0, 50), (1, 60), (1, 10)), (), leaders=LEADERS)
    assert one_by_one(queue) == [0, 2, 1, 3]


def test_what_was_begun_comes_first_in_its_partition() -> None:
    queue = Queue(fleet((0, 90), (0, 1), (0, 2)), (), begun={1}, leaders=LEADERS)
    assert one_by_one(queue) == [1, 0, 2]


def test_what_is_done_is_not_handed_out() -> None:
    queue = Queue(fleet((0, 90), (0, 1), (1, 2)), {0, 2}, leaders=LEADERS)
    assert (len(queue), one_by_one(queue)) == (1, [1])


def test_one_load_at_a_time_in_a_partition() -> None:
    queue = Queue(fleet((0, 9), (0, 8)), (), leaders=LEADERS)
    first = queue.next()
    assert first is not None
    assert queue.next() is None
    queue.done(first)
    assert handed_out(queue) == [1]


def test_so_many_loads_at_a_broker() -> None:
    queue = Queue(fleet((0, 9), (1, 8), (2, 7), (3, 6)), (), leaders=LEADERS, per_broker=1)
    first = queue.next()
    assert first is not None
    assert (first.index, handed_out(queue)) == (0, [1])
    queue.done(first)
    assert handed_out(queue) == [2]


def test_a_failure_frees_its_partition_for_the_next() -> None:
    queue = Queue(fleet((0, 9), (0, 8)), (), leaders=LEADERS, per_broker=1)
    first = queue.next()
    assert first is not None
    assert queue.give_up(first) == ()
    assert handed_out(queue) == [1]


def test_single_keeps_the_order_also_of_what_was_begun() -> None:
    files = fleet((0, 1), (0, 90), (0, 5), placement="single")
    assert one_by_one(Queue(files, (), begun={2}, leaders=LEADERS)) == [0, 1, 2]


def test_single_holds_back_all_behind_a_failure() -> None:
    queue = Queue(fleet((0, 1), (0, 90), (0, 5), placement="single"), {0}, leaders=LEADERS)
    first = queue.next()
    assert first is not None
    assert [entry.index for entry in queue.give_up(first)] == [2]
    assert (len(queue), queue.next()) == (0, None)


def play(queue: Queue, dice: random.Random, per_broker: int | None) -> list[Entry]:
    """Hand out and end in whatever order; what was handed out, the invariants confirmed at each step."""
    order: list[Entry] = []
    running: list[Entry] = []
    while len(queue) or running:
        while (dice.random() < 0.8 or not running) and (entry := queue.next()) is not None:
            order.append(entry)
            running.append(entry)
        assert running, "nothing is under way, and nothing can be"
        assert max(Counter(entry.partition for entry in running).values()) == 1
        loads = Counter(LEADERS[entry.partition] for entry in running)
        assert per_broker is None or max(loads.values()) <= per_broker
        ended = running.pop(dice.randrange(len(running)))
        if dice.random() < 0.2:
            queue.give_up(ended)
        else:
            queue.done(ended)
    return order


@pytest.mark.parametrize("placement", ["round-robin", "single"])
@given(
    files=st.lists(st.tuples(st.integers(0, 3), st.integers(0, 9)), max_size=20),
    seed=st.integers(),
    per_broker=st.one_of(st.none(), st.integers(1, 3)),
    done=st.sets(st.integers(0, 19)),
    begun=st.sets(st.integers(0, 19)),
)
def test_whatever_ends_first_each_is_handed_out_once(
    placement: Placement,
    files: Sequence[tuple[int, int]],
    seed: int,
    per_broker: int | None,
    done: set[int],
    begun: set[int],
) -> None:
    is_single = placement == "single"
    manifest = fleet(*((0 if is_single else partition, size) for partition, size in files), placement=placement)
    queue = Queue(manifest, done, begun=begun, leaders=LEADERS, per_broker=per_broker)
    wanted = [entry for entry in manifest.entries if entry.index not in done]

    order = play(queue, random.Random(seed), per_broker)

    if is_single:
        assert order == wanted[: len(order)]
        return
    assert sorted(entry.index for entry in order) == [entry.index for entry in wanted]
    for partition in LEADERS:
        lane = [entry for entry in order if entry.partition == partition]
        keys = [(entry.index not in begun, -entry.size_bytes) for entry in lane]
        assert all(one <= next_one for one, next_one in pairwise(keys))
