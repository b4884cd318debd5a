"""csv2kafka itself as a measured program: the whole command, as a user runs it, and its receipt."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.measured import Measured, Usage


@dataclass(frozen=True, slots=True)
class Load:
    """One finished run. Its steady part is what lies behind the first acknowledged batch."""

    usage: Usage
    receipt: dict[str, Any]

    @property
    def steady_s(self) -> float:
        return float(self.receipt["duration_s"]) - float(self.receipt["startup_s"])

    @property
    def steady_rows_per_s(self) -> float:
        return int(self.receipt["rows_this_run"]) / self.steady_s


def command(source: str | Path, topic: str, bootstrap: str, state: Path, options: Sequence[str] = ()) -> list[str]:
    """The command line; `state` is the file for checkpoints."""
    checkpoint = f"sqlite:///{state.absolute()}"
    words = ["run", str(source), topic, "-b", bootstrap, "--checkpoint", checkpoint, "--json", *options]
    return [sys.executable, "-m", "csv2kafka", *words]


def start(
    source: str | Path,
    topic: str,
    bootstrap: str,
    state: Path,
    env: Mapping[str, str] | None = None,
    options: Sequence[str] = (),
) -> Measured:
    return Measured(command(source, topic, bootstrap, state, options), env=env)


def finish(running: Measured, timeout_s: float = 600.0) -> Load:
    """Wait for the end. Raises ProgramFailed."""
    usage = running.wait_for_success(timeout_s)
    return Load(usage, json.loads(usage.stdout))
