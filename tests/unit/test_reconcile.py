"""Counting our rows by batch headers alone: every chain that this job can have written, and none that it cannot."""

from __future__ import annotations

import pytest

from csv2kafka.errors import JobConflict
from csv2kafka.kafka.tail import reconcile
from csv2kafka.model import OwnMark
from csv2kafka.recordbatch import BatchHeader

OURS, OLDER, FOREIGN = 41, 40, 7
LAST = 2**31 - 1


def data(producer_id: int, epoch: int, sequence: int, rows: int, *, delta: int | None = None) -> BatchHeader:
    last_delta = rows - 1 if delta is None else delta
    return BatchHeader(0, 100, 3, False, last_delta, 0, producer_id, epoch, sequence, rows)


def marker(producer_id: int, epoch: int) -> BatchHeader:
    return BatchHeader(0, 78, 0, True, 0, 0, producer_id, epoch, -1, 1)


def test_nothing_behind_the_checkpoint() -> None:
    own = reconcile([marker(OURS, 3)], (OURS,), OwnMark(OURS, 2, 99))
    assert (own.rows, own.last_batch, own.last) == (0, None, OwnMark(OURS, 3, -1))


def test_rows_of_the_checkpoints_epoch_continue_its_sequence() -> None:
    batches = [data(OURS, 2, 100, 50), data(OURS, 2, 150, 1), marker(OURS, 3)]
    own = reconcile(batches, (OURS,), OwnMark(OURS, 2, 99))
    assert own.rows == 51
    assert own.last_batch == batches[1]


def test_an_epoch_begins_at_zero_and_its_markers_may_repeat() -> None:
    chain = [
        marker(OURS, 3),
        marker(OURS, 3),
        data(OURS, 3, 0, 10),
        marker(OURS, 4),
        data(OURS, 4, 0, 5),
        marker(OURS, 5),
    ]
    assert reconcile(chain, (OURS,), OwnMark(OURS, 2, -1)).rows == 15


def test_sequences_wrap() -> None:
    chain = [data(OURS, 0, LAST - 1, 3), data(OURS, 0, 1, 2), marker(OURS, 1)]
    own = reconcile(chain, (OURS,), OwnMark(OURS, 0, LAST - 2))
    assert own.rows == 5
    assert chain[0].last_sequence == 0


def test_an_older_producer_id_of_the_job_counts_and_comes_first() -> None:
    chain = [data(OLDER, 9, 0, 4), marker(OURS, 0), data(OURS, 0, 0, 6), marker(OURS, 1)]
    assert reconcile(chain, (OLDER, OURS), OwnMark(OLDER, 9, -1)).rows == 10


def test_other_producers_are_counted_but_not_as_rows() -> None:
    chain = [data(FOREIGN, 0, 17, 4), data(-1, -1, -1, 2), marker(FOREIGN, 0), marker(OURS, 1)]
    own = reconcile(chain, (OURS,), OwnMark(OURS, 0, -1))
    assert (own.rows, own.foreign_records) == (0, 6)


def test_a_marker_repeated_behind_rows_does_not_begin_the_sequence_again() -> None:
    chain = [marker(OURS, 3), data(OURS, 3, 0, 10), marker(OURS, 3), data(OURS, 3, 10, 5)]
    assert reconcile(chain, (OURS,), OwnMark(OURS, 2, -1)).rows == 15
    ends_with_one = reconcile([*chain, marker(OURS, 3)], (OURS,), OwnMark(OURS, 2, -1))
    assert ends_with_one.last == OwnMark(OURS, 3, 14)


@pytest.mark.parametrize(
    ("chain", "reason"),
    [
        ([data(OURS, 2, 101, 1)], "first sequence is 101, 100 was to come"),
        ([data(OURS, 2, 99, 1)], "first sequence is 99"),
        ([data(OURS, 3, 5, 1)], "first sequence is 5, 0 was to come"),
        ([marker(OURS, 3), data(OURS, 3, 1, 1)], "first sequence is 1, 0 was to come"),
        ([data(OURS, 1, 0, 1)], "epoch 1 comes after epoch 2"),
        ([marker(OURS, 3), marker(OURS, 2)], "epoch 2 comes after epoch 3"),
        ([data(OLDER, 9, 0, 1)], "epoch 9 comes after"),
        ([data(OURS, 2, 100, 3, delta=9)], "only 3 of its 10 records are left"),
    ],
)
def test_what_this_job_cannot_have_written_is_refused(chain: list[BatchHeader], reason: str) -> None:
    with pytest.raises(JobConflict, match=reason) as refused:
        reconcile(chain, (OLDER, OURS), OwnMark(OURS, 2, 99))
    assert "csv2kafka reset" in refused.value.hint
