"""A machine that refuses open files or memory: the loader says so where it still can, and goes on without the limit.

Where the loader fails depends on versions and libraries, so limits are swept: each must end in an orderly way. Native
code that gets no memory ends the process by itself; then only the topic can be looked at.
"""

from __future__ import annotations

import contextlib
import resource
import signal
import subprocess
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from csv2kafka.devbroker import Broker
from tests.support.cli_load import SMALL_BATCHES, CliLoad, Ended
from tests.support.processes import Children

pytestmark = [pytest.mark.integration, pytest.mark.kafka]

TRY_AGAIN, STOPPED, BUG = 75, 143, 70
MB = 1 << 10  # ulimit counts memory in KiB
# How long a run asks a store that refuses: two seconds instead of two minutes.
IMPATIENT = ("-X", "delivery.timeout.ms=2000", "-X", "request.timeout.ms=2000")


class LimitedChildren(Children):
    """Children that start under a limit (`ulimit`'s arguments) while one is set."""

    limit = ""

    def start(self, command: Sequence[str], **options: Any) -> Any:
        if self.limit:
            command = ["sh", "-c", f'ulimit {self.limit} && exec "$@"', "sh", *command]
        return super().start(command, **options)


@pytest.fixture
def children(tmp_path: Path) -> Iterator[LimitedChildren]:
    running = LimitedChildren({"XDG_STATE_HOME": str(tmp_path / "state")})
    yield running
    running.close()


@pytest.fixture
def load(broker: Broker, make_topic: Callable[..., str], children: LimitedChildren, tmp_path: Path) -> CliLoad:
    return CliLoad(children, broker.bootstrap, make_topic(config=SMALL_BATCHES), tmp_path, options=IMPATIENT)


@contextlib.contextmanager
def limited(children: LimitedChildren, limit: str) -> Iterator[None]:
    children.limit = limit
    yield
    children.limit = ""


def explained(ended: Ended, *words: str) -> None:
    """It ended for lack of something, and says of what."""
    assert ended.returncode == TRY_AGAIN, ended
    assert any(word in str(ended.receipt["error"]) for word in words), ended
    assert "run the same command again" in str(ended.receipt["hint"])
    assert "this is a bug" not in ended.stderr


SLOW = pytest.mark.slow


@pytest.mark.parametrize("count", [4, 12, *(pytest.param(n, marks=SLOW) for n in (5, 6, 7, 8, 9, 10, 11, 13, 14, 15))])
def test_few_open_files(load: CliLoad, children: LimitedChildren, count: int) -> None:
    with limited(children, f"-n {count}"):
        ended = load.run()
    if ended.returncode == 0:
        load.assert_exact()
    else:
        explained(ended, "may not open more files")
        load.assert_prefix()
        load.assert_goes_on()


@pytest.mark.parametrize("step", ["lease_taken", "batch_acked", pytest.param("epoch_started", marks=SLOW)])
def test_no_more_open_files_mid_run(load: CliLoad, step: str) -> None:
    with load.paused_at(step) as process:
        hard = resource.prlimit(process.pid, resource.RLIMIT_NOFILE)[1]
        resource.prlimit(process.pid, resource.RLIMIT_NOFILE, (0, hard))
    explained(load.wait(), "may not open more files")
    load.assert_prefix()
    load.assert_goes_on()


def ends_in_an_orderly_way(load: CliLoad) -> None:
    """It has enough, or says that it has not, or native code that gets no memory ends it on the spot.

    Python waits for ever for a thread that gets its stack and nothing else; then it must go when it is told to.
    """
    assert load.process is not None
    try:
        ended = load.wait(timeout_s=60)
    except subprocess.TimeoutExpired:
        load.process.terminate()
        ended = load.wait(timeout_s=60)
        assert ended.returncode in (STOPPED, -signal.SIGTERM), ended
    if ended.returncode not in (0, STOPPED) and ended.stdout:
        explained(ended, "memory", "threads")
    assert ended.returncode != BUG, ended
    assert "this is a bug" not in ended.stderr


@pytest.mark.parametrize(
    "limit",
    [
        f"-d {20 * MB}",
        f"-v {400 * MB}",
        *(pytest.param(f"-d {size * MB}", marks=SLOW) for size in (80, 120, 150, 160, 180, 200, 240)),
        *(pytest.param(f"-v {size * MB}", marks=SLOW) for size in (250, 350, 450, 550, 650)),
    ],
)
def test_little_memory(load: CliLoad, children: LimitedChildren, limit: str) -> None:
    with limited(children, limit):
        load.start()
    ends_in_an_orderly_way(load)
    load.assert_prefix()
    load.assert_goes_on()


@pytest.mark.slow
@pytest.mark.parametrize("step", ["lease_taken", "epoch_started", "batch_acked"])
def test_no_more_memory_mid_run(load: CliLoad, step: str) -> None:
    with load.paused_at(step) as process:
        hard = resource.prlimit(process.pid, resource.RLIMIT_AS)[1]
        resource.prlimit(process.pid, resource.RLIMIT_AS, (0, hard))
    explained(load.wait(), "memory", "threads")
    load.assert_prefix()
    load.assert_goes_on()
