"""Naming a step at which a run dies or stands still: what is refused, and that nothing is there in normal use."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Iterator

import pytest

from csv2kafka import failpoints
from csv2kafka.errors import UsageError

Signals = list[signal.Signals]


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> Iterator[Signals]:
    """The signals that this process would have sent to itself."""
    signals: Signals = []
    monkeypatch.setattr(os, "kill", lambda _, number: signals.append(number))
    yield signals
    failpoints.arm({})


def test_nothing_is_armed_in_normal_use() -> None:
    failpoints.arm({})
    assert failpoints.reach is failpoints.reach_soon is failpoints._nothing


def test_the_step_acts_at_its_number_only(sent: Signals) -> None:
    failpoints.arm({"CSV2KAFKA_CRASH_AT": "batch_acked:2", "CSV2KAFKA_PAUSE_AT": "tail_read:1"})
    failpoints.reach("batch_acked")
    failpoints.reach("batch_sending")
    assert sent == []
    failpoints.reach("tail_read")
    failpoints.reach("batch_acked")
    failpoints.reach("batch_acked")
    assert sent == [signal.SIGSTOP, signal.SIGKILL]


def test_several_steps_are_separated_by_commas(sent: Signals) -> None:
    failpoints.arm({"CSV2KAFKA_PAUSE_AT": "batch_acked:2,batch_sending:1,batch_acked:3"})
    for step in ("batch_acked", "batch_sending", "batch_acked", "batch_sending", "batch_acked", "batch_acked"):
        failpoints.reach(step)
    assert sent == [signal.SIGSTOP] * 3


def test_soon_is_when_the_caller_waits(sent: Signals) -> None:
    failpoints.arm({"CSV2KAFKA_CRASH_AT": "batch_sent:1"})

    async def main() -> None:
        failpoints.reach_soon("batch_sent")
        assert sent == []
        await asyncio.sleep(0)

    asyncio.run(main())
    assert sent == [signal.SIGKILL]


@pytest.mark.parametrize(
    "wrong", ["batch_acked", "batch_acked:0", "batch_acked:x", "no_such_step:1", ":1", "batch_acked:1,x"]
)
def test_what_names_no_step_is_refused(wrong: str) -> None:
    with pytest.raises(UsageError, match="names no step") as refused:
        failpoints.arm({"CSV2KAFKA_CRASH_AT": wrong})
    assert "tail_proven" in refused.value.hint
