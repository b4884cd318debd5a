"""Is a topic equal to a file? Read with librdkafka, expected by Python's csv and json, compared value by value.

    python -m bench.readback FILE BOOTSTRAP TOPIC ISOLATION

Prints JSON lines: {"read": N} while it goes on, the Comparison at the end. Shares no code with the loader.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from itertools import chain, islice
from pathlib import Path
from typing import cast

from bench.data import expected_values
from tests.support.oracle import Isolation, iter_messages


@dataclass(frozen=True, slots=True)
class Comparison:
    """`expected` rows of the file against `read` records.

    `surplus`: records that the file does not account for, repeated or foreign. `in_order`: the file's rows that are
    there stand in its order (of a repeated one the first copy counts).
    """

    expected: int
    read: int
    missing: int
    surplus: int
    in_order: bool

    @property
    def is_equal(self) -> bool:
        return self.expected == self.read and not self.missing and not self.surplus and self.in_order


def compare(
    expected: Iterator[bytes], batches: Iterable[list[bytes]], tell: Callable[[int], None] = lambda read: None
) -> Comparison:
    """Compare in step, in little memory for as long as both sides are equal. `tell` hears how many were read."""
    read = 0
    values = iter(batches)
    for got in values:
        wanted = list(islice(expected, len(got)))
        if got != wanted:
            rest = chain(got, chain.from_iterable(values))
            return _differences(read, map(hash, chain(wanted, expected)), map(hash, rest))
        read += len(got)
        tell(read)
    missing = sum(1 for _ in expected)
    return Comparison(read + missing, read, missing, 0, True)


def _differences(equal: int, expected: Iterable[int], got: Iterable[int]) -> Comparison:
    """What is wrong behind the first `equal` rows; values stand for themselves by their hashes, which fit in memory."""
    wanted, found = list(expected), list(got)
    to_come = Counter(wanted)
    there: list[int] = []
    for value in found:
        if to_come[value] > 0:
            to_come[value] -= 1
            there.append(value)
    missing = +to_come  # the counts above 0
    in_order = there == _without(wanted, missing)
    return Comparison(equal + len(wanted), equal + len(found), missing.total(), len(found) - len(there), in_order)


def _without(values: list[int], missing: Counter[int]) -> list[int]:
    left = missing.copy()
    kept = []
    for value in values:
        if left[value] > 0:
            left[value] -= 1
        else:
            kept.append(value)
    return kept


def main() -> None:
    path, bootstrap, topic, isolation = sys.argv[1:]
    messages = iter_messages(bootstrap, topic, isolation=cast(Isolation, isolation))
    batches = ([message.value() or b"" for message in batch] for batch in messages)

    def tell(read: int) -> None:
        print(json.dumps({"read": read}), flush=True)

    print(json.dumps(asdict(compare(expected_values(Path(path)), batches, tell))))


if __name__ == "__main__":
    main()
