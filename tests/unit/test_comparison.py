"""Two streams of records compared: equal however they are cut into batches; each way to differ is told."""

from __future__ import annotations

import random
from collections.abc import Sequence

import pytest

from csv2kafka.comparison import MOST_DIFFERENCES, Comparison, Difference, How
from tests.support.csv_oracle import frame_record
from tests.support.record_oracle import Record

VALUES = [b'{"row":"%d"}' % row for row in range(1_000)]


def compare(expected: Sequence[bytes], found: Sequence[bytes], seed: int = 1) -> tuple[list[Difference], int]:
    """(differences, records compared), with both sides coming in batches of random sizes."""
    rng = random.Random(seed)
    comparison = Comparison("t-0")
    sides = [(comparison.expected, list(expected), 0), (comparison.found, list(found), 500)]
    places = [0, 0]
    while not comparison.is_done:
        comparison.go_on()
        for number, wants in enumerate((comparison.wants_expected, comparison.wants_found)):
            side, values, base = sides[number]
            if not wants:
                continue
            start = places[number]
            places[number] = end = min(len(values), start + rng.choice((1, 2, 7, 100)))
            if start == end:
                side.ended = True
            else:
                side.add(b"".join(frame_record(value, at) for at, value in enumerate(values[start:end])), base + start)
    return comparison.differences, comparison.records


@pytest.mark.parametrize("seed", range(20))
def test_equal_however_they_are_cut(seed: int) -> None:
    assert compare(VALUES, VALUES, seed) == ([], 1_000)


def test_nothing_equals_nothing() -> None:
    assert compare([], []) == ([], 0)


def test_keys_and_headers_count() -> None:
    comparison = Comparison("t-0")
    comparison.expected.add(frame_record(Record(b"v", b"k", (("h", b"1"),)), 0))
    comparison.found.add(frame_record(Record(b"v", b"k", (("h", b"2"),)), 0))
    comparison.expected.ended = comparison.found.ended = True
    comparison.go_on()
    assert comparison.is_done
    assert [difference.how for difference in comparison.differences] == [How.CHANGED]


@pytest.mark.parametrize("at", [0, 1, 500, 998, 999])
@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("how", ["deleted", "doubled", "foreign", "swapped", "changed"])
def test_one_planted_difference(how: str, at: int, seed: int) -> None:
    found = list(VALUES)
    if how == "swapped" and at == 999:
        at = 998
    if how == "deleted":
        del found[at]
    elif how == "doubled":
        found.insert(at + 1, found[at])
    elif how == "foreign":
        found.insert(at, b"of somebody else")
    elif how == "swapped":
        found[at : at + 2] = reversed(found[at : at + 2])
    else:
        found[at] = b"another"
    differences, records = compare(VALUES, found, seed)
    wanted = {"deleted": How.MISSING, "foreign": How.EXTRA}.get(how) or How(how)
    assert [difference.how for difference in differences] == [wanted]
    assert differences[0].record == at + 1 + (how == "doubled")
    if not (how == "deleted" and at == 999):
        assert differences[0].offset == 500 + at + (how == "doubled")
        assert records == 1_000
    assert f"{wanted}" in str(differences[0])


def test_several_are_told_one_by_one() -> None:
    found = [value for row, value in enumerate(VALUES) if row not in (100, 101, 102, 700)]
    found.insert(300, VALUES[5])
    differences, _ = compare(VALUES, found)
    assert [(each.how, each.record, each.records) for each in differences] == [
        (How.MISSING, 101, 3),
        (How.DOUBLED, 304, 1),
        (How.MISSING, 701, 1),
    ]


def test_the_end_is_missing_or_too_long() -> None:
    (missing,), records = compare(VALUES, VALUES[:300])
    assert (missing.how, missing.record, missing.records, missing.offset) == (How.MISSING, 301, None, None)
    assert records == 300
    assert "all from record 301" in str(missing)
    (extra,), _ = compare(VALUES[:300], VALUES)
    assert (extra.how, extra.record, extra.records, extra.offset) == (How.EXTRA, 301, None, 800)


def test_another_file_is_given_up_soon() -> None:
    differences, records = compare(VALUES, [b"x%d" % row for row in range(1_000)])
    assert len(differences) == MOST_DIFFERENCES
    assert records < 1_000


def test_a_null_is_shown() -> None:
    comparison = Comparison("t-0")
    comparison.found.add(b"\x0c\x00\x00\x00\x01\x01\x00")
    comparison.expected.ended = comparison.found.ended = True
    comparison.go_on()
    assert comparison.is_done
    assert comparison.differences[0].found == "null"
