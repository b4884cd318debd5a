"""Named steps at which a run can be made to die or to stand still: for tests of what a crash there leaves behind.

`CSV2KAFKA_CRASH_AT=NAME:N` kills the process (SIGKILL) when it comes to that step for the Nth time,
`CSV2KAFKA_PAUSE_AT=NAME:N` stops it (SIGSTOP) until somebody sends SIGCONT; commas separate several. Without them
`reach` is an empty function, called once a batch or less; no step lies inside a row.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections import Counter
from collections.abc import Callable, Mapping

from csv2kafka.errors import UsageError

TAKEOVER_STEPS = (
    "lease_taken",
    "epoch_started",  # InitProducerId answered
    "epoch_saved",  # its producer id is in the checkpoint
    "partition_added",  # between AddPartitionsToTxn and EndTxn
    "marker_asked",  # EndTxn answered; the marker may still be on its way
    "tail_read",
    "tail_proven",  # compared with the file
    "takeover_saved",
)
PIPELINE_STEPS = (
    "block_read",
    "block_encoded",
    "batch_sending",
    "batch_sent",  # handed to the system, no answer yet
    "batch_acked",  # answered, the safe position not moved yet
    "position_moved",
    "checkpoint_saving",
    "checkpoint_saved",
    "all_acked",  # the end of the file, before the last save
    "job_completed",  # saved; the lease is still held
)
STEPS = (*TAKEOVER_STEPS, *PIPELINE_STEPS)

_VARIABLES = {"CSV2KAFKA_CRASH_AT": signal.SIGKILL, "CSV2KAFKA_PAUSE_AT": signal.SIGSTOP}


def _nothing(_step: str) -> None:
    pass


reach: Callable[[str], None] = _nothing
reach_soon: Callable[[str], None] = _nothing


def arm(environment: Mapping[str, str]) -> None:
    """Set the steps that the environment names. Raises UsageError for a step that does not exist."""
    global reach, reach_soon  # noqa: PLW0603 - so that nothing at all is looked up in normal use
    wanted = {
        (step, number): act for variable, act in _VARIABLES.items() for step, number in _parse(variable, environment)
    }
    if not wanted:
        reach = reach_soon = _nothing
        return
    reached: Counter[str] = Counter()

    def armed(step: str) -> None:
        reached[step] += 1
        act = wanted.get((step, reached[step]))
        if act is not None:
            os.kill(os.getpid(), act)

    def armed_soon(step: str) -> None:
        """When the caller has come to its next await: what it writes to a socket until then has been written."""
        asyncio.get_running_loop().call_soon(armed, step)

    reach, reach_soon = armed, armed_soon


def _parse(variable: str, environment: Mapping[str, str]) -> list[tuple[str, int]]:
    wanted = []
    for text in filter(None, environment.get(variable, "").split(",")):
        step, _, number = text.partition(":")
        if step not in STEPS or not (number.isascii() and number.isdecimal() and int(number) > 0):
            raise UsageError(f"{variable}={text} names no step", hint=f"NAME:N with one of {', '.join(STEPS)}")
        wanted.append((step, int(number)))
    return wanted
