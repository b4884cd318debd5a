"""One job of the real command line with a file of known rows: paused at a step, broken, resumed, compared.

load = CliLoad(children, broker.bootstrap, topic, tmp_path)
with load.paused_at("batch_acked", 5):   # the process stands still there ...
    ...                                  # ... while the world changes, and goes on when the block ends
assert load.wait().returncode == 0
load.assert_exact()
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

from tests.support.loads import write_csv
from tests.support.oracle import end_offset, read_topic
from tests.support.processes import Children

ROWS = 30_000
SMALL_BATCHES = {"max.message.bytes": "20000"}  # a topic's setting that makes some twenty batches of these rows

ISOLATIONS: tuple[Literal["read_uncommitted", "read_committed"], ...] = ("read_uncommitted", "read_committed")


class Ended(NamedTuple):
    returncode: int
    stdout: str
    stderr: str

    @property
    def receipt(self) -> dict[str, object]:
        """The JSON object that the run printed: a receipt, or an error with `error` and `hint`."""
        return json.loads(self.stdout)  # type: ignore[no-any-return]

    def assert_failed(self, exit_code: int, *words: str) -> None:
        """The run ended with this code, an error and a hint; each of the words is in one of the two."""
        assert self.returncode == exit_code, self
        error, hint = self.receipt["error"], self.receipt["hint"]
        assert error, self
        assert hint, self
        for word in words:
            assert word in f"{error} {hint}", self
        assert "Traceback" not in self.stderr, self


class CliLoad:
    """`source` and `checkpoint` are what the command line takes; the file and a SQLite database unless given."""

    def __init__(
        self,
        children: Children,
        bootstrap: str,
        topic: str,
        folder: Path,
        *,
        rows: int = ROWS,
        source: str | None = None,
        checkpoint: str | None = None,
        options: Sequence[str] = (),
        env: Mapping[str, str] | None = None,
        oracle_bootstrap: str | None = None,
    ) -> None:
        """`oracle_bootstrap`: where the topic is read, if the load's own way leads through a proxy."""
        self.children = children
        self.bootstrap = bootstrap
        self.topic = topic
        self.path = folder / "data.csv"
        self.values = write_csv(self.path, rows)
        self.source = source or str(self.path)
        self.checkpoint = checkpoint or f"sqlite:///{folder / 'checkpoints.db'}"
        self.options = tuple(options)
        self.env = dict(env or {})
        self.process: subprocess.Popen[str] | None = None
        self._oracle_bootstrap = oracle_bootstrap or bootstrap

    def start(self, *options: str, env: Mapping[str, str] | None = None) -> subprocess.Popen[str]:
        """Start the command in the background; it is `process` from then on."""
        self.process = self.children.start_cli(
            "run", self.source, self.topic, "-b", self.bootstrap, "--checkpoint", self.checkpoint, "--job-id", "job",
            "--json", *self.options, *options, env={**self.env, **(env or {})},
        )  # fmt: skip
        return self.process

    def wait(self, process: subprocess.Popen[str] | None = None, timeout_s: float = 120) -> Ended:
        """Wait for the end of `process`, the last one started unless given."""
        process = process or self.process
        assert process is not None
        stdout, stderr = process.communicate(timeout=timeout_s)
        return Ended(process.returncode, stdout, stderr)

    def run(self, *options: str, env: Mapping[str, str] | None = None, timeout_s: float = 120) -> Ended:
        return self.wait(self.start(*options, env=env), timeout_s)

    def crash_at(self, step: str, number: int = 1, *options: str) -> None:
        """Run until the step kills the process; fails when the process ends in any other way."""
        ended = self.run(*options, env={"CSV2KAFKA_CRASH_AT": f"{step}:{number}"})
        assert ended.returncode == -signal.SIGKILL, f"never came to {step}:{number}: {ended}"

    @contextlib.contextmanager
    def paused_at(self, step: str, number: int = 1, *options: str) -> Iterator[subprocess.Popen[str]]:
        """Start, and wait until the process stands still at the step; it goes on when the block ends."""
        process = self.start(*options, env={"CSV2KAFKA_PAUSE_AT": f"{step}:{number}"})
        self.wait_until_stopped(process)
        try:
            yield process
        finally:
            process.send_signal(signal.SIGCONT)

    def pauses(self, *steps: str, options: Sequence[str] = ()) -> Iterator[subprocess.Popen[str]]:
        """Start; yields whenever the process stands still at the next of the steps (NAME:N), and then lets it go on."""
        process = self.start(*options, env={"CSV2KAFKA_PAUSE_AT": ",".join(steps)})
        for _ in steps:
            self.wait_until_stopped(process)
            yield process
            process.send_signal(signal.SIGCONT)

    def wait_until_stopped(self, process: subprocess.Popen[str]) -> None:
        """Wait until the process stands still (SIGSTOP); fails with what it said when it ends instead."""
        state = os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)
        assert state is not None
        if state.si_code != os.CLD_STOPPED:
            raise AssertionError(f"ended instead of standing still: {self.wait(process)}")

    def end(self) -> int:
        return end_offset(self._oracle_bootstrap, self.topic)

    def assert_exact(self) -> None:
        """Both kinds of consumers see every row once, in order, and nothing else."""
        for isolation in ISOLATIONS:
            assert read_topic(self._oracle_bootstrap, self.topic, isolation=isolation) == self.values

    def assert_prefix(self, at_least: int = 0) -> int:
        """Both kinds of consumers see the file's first rows and nothing else; returns how many."""
        count = at_least
        for isolation in ISOLATIONS:
            found = read_topic(self._oracle_bootstrap, self.topic, isolation=isolation)
            assert found == self.values[: len(found)]
            assert len(found) >= count  # what was under way when the loader died may still have come in
            count = len(found)
        return count

    def assert_goes_on(self) -> None:
        """The same command, nothing in its way any more, ends with the exact topic."""
        ended = self.run()
        assert ended.returncode == 0, ended
        self.assert_exact()
