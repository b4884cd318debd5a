"""`--delivery lease-only`, for clusters that deny transactional ids: exact through crashes, honest about the rest."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from csv2kafka.devbroker import Broker
from tests.support.cli_load import SMALL_BATCHES, CliLoad
from tests.support.processes import Children

pytestmark = [pytest.mark.integration, pytest.mark.kafka]

LEASE_ONLY = ("--delivery", "lease-only")


@pytest.fixture
def load(broker: Broker, make_topic: Callable[..., str], children: Children, tmp_path: Path) -> CliLoad:
    topic = make_topic(config=SMALL_BATCHES)
    return CliLoad(children, broker.bootstrap, topic, tmp_path, options=LEASE_ONLY)


def test_the_weaker_promise_is_printed_and_in_the_receipt(load: CliLoad) -> None:
    ended = load.run()
    assert ended.returncode == 0
    assert "nothing shuts out a dead or paused instance" in ended.stderr
    assert ended.receipt["delivery"] == "lease-only"
    load.assert_exact()
    assert load.end() == len(load.values), "no marker, and so no transactional id, was used"


_LATER = [pytest.param(step, marks=pytest.mark.slow) for step in ("epoch_saved", "batch_acked", "checkpoint_saved")]


@pytest.mark.parametrize("step", ["batch_sending", "all_acked", *_LATER])
def test_killed_and_started_again(load: CliLoad, step: str) -> None:
    load.crash_at("position_moved", 7)
    load.crash_at(step)
    load.assert_prefix()
    load.assert_goes_on()


@pytest.mark.slow
def test_a_job_may_lose_its_fence(load: CliLoad) -> None:
    """But not back: a fence of before would not keep the unfenced instance out."""
    load.options = ()
    load.crash_at("position_moved", 7)
    load.options = LEASE_ONLY
    load.crash_at("position_moved", 7)
    refused = load.run("--delivery", "fenced")
    assert (refused.returncode, "went on without a fence" in refused.stderr) == (78, True)
    load.assert_goes_on()


def test_a_job_that_began_without_a_fence_gets_one_on_a_word(load: CliLoad) -> None:
    load.crash_at("position_moved", 7)
    load.options = ()
    refused = load.run()
    assert (refused.returncode, "--accept-new-producer-id" in refused.stderr) == (78, True)
    load.crash_at("position_moved", 7, "--accept-new-producer-id")
    load.assert_prefix(at_least=1)
    load.assert_goes_on()


def test_what_the_weaker_promise_does_not_cover(load: CliLoad) -> None:
    """An instance that stood still while another took the job over writes one more batch: fenced delivery refuses it,
    here it is in the topic. The lease stops it right after, and the next reading of the log would see it.
    """
    with load.paused_at("batch_sending", 5) as zombie:
        for lock in load.path.parent.glob("*.lock"):
            lock.unlink()  # as on another machine, or with a lease that ran out
        with load.paused_at("takeover_saved") as successor:
            zombie.send_signal(signal.SIGCONT)
            assert load.wait(zombie).returncode == 75
    ended = load.wait(successor)
    assert ended.returncode == 0
    assert ended.receipt["foreign_records"], "seen between the rows, if not prevented"
    assert load.end() > len(load.values)
