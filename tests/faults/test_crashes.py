"""SIGKILL at every named step of the pipeline and of the take-over: the next run ends with the exact topic."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from csv2kafka.devbroker import Broker
from csv2kafka.failpoints import PIPELINE_STEPS, TAKEOVER_STEPS
from tests.support.cli_load import SMALL_BATCHES, CliLoad
from tests.support.processes import Children

pytestmark = [pytest.mark.integration, pytest.mark.kafka]


@pytest.fixture
def load(broker: Broker, make_topic: Callable[..., str], children: Children, tmp_path: Path) -> CliLoad:
    return CliLoad(children, broker.bootstrap, make_topic(config=SMALL_BATCHES), tmp_path)


@pytest.mark.parametrize("step", PIPELINE_STEPS)
def test_killed_at_a_step_of_the_pipeline(load: CliLoad, step: str) -> None:
    load.crash_at(step)
    load.assert_prefix()
    load.assert_goes_on()


@pytest.mark.parametrize("step", TAKEOVER_STEPS)
def test_killed_at_a_step_of_the_first_take_over(load: CliLoad, step: str) -> None:
    load.crash_at(step)
    assert load.assert_prefix() == 0
    load.assert_goes_on()


@pytest.mark.parametrize("step", TAKEOVER_STEPS)
def test_killed_at_a_step_of_a_resumes_take_over(load: CliLoad, step: str) -> None:
    """What the first run had in the log and not in its checkpoint must survive a second death on the way."""
    load.crash_at("batch_acked", 20)
    before = load.assert_prefix(at_least=1)
    load.crash_at(step)
    assert load.assert_prefix() == before
    load.assert_goes_on()
