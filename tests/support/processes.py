"""Child processes that end with the test that started them, and with the test run, however it ends."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from csv2kafka.devbroker import die_with_parent


class Children:
    """Starts programs; `close` kills those that still run. `cli` is `python -m csv2kafka`, to its end or in the
    background.
    """

    def __init__(self, env: Mapping[str, str] | None = None) -> None:
        """env: changes to this process's environment for every child."""
        self._env = dict(env or {})
        self._running: list[subprocess.Popen[str]] = []

    def start(
        self,
        command: Sequence[str],
        *,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        stdin: int = subprocess.DEVNULL,
    ) -> subprocess.Popen[str]:
        """Start a program with stdout and stderr as pipes, each text of its own."""
        process = subprocess.Popen(
            die_with_parent(command),
            env=os.environ | self._env | dict(env or {}),
            cwd=cwd,
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self._running.append(process)
        return process

    def start_cli(
        self, *arguments: str | Path, env: Mapping[str, str] | None = None, cwd: Path | None = None
    ) -> subprocess.Popen[str]:
        return self.start([sys.executable, "-m", "csv2kafka", *map(str, arguments)], env=env, cwd=cwd)

    def cli(
        self,
        *arguments: str | Path,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        timeout_s: float = 120,
    ) -> subprocess.CompletedProcess[str]:
        """Run a command to its end: `returncode`, `stdout`, `stderr`."""
        process = self.start_cli(*arguments, env=env, cwd=cwd)
        stdout, stderr = process.communicate(timeout=timeout_s)
        return subprocess.CompletedProcess(process.args, process.returncode, stdout, stderr)

    def close(self) -> None:
        for process in self._running:
            if process.poll() is None:
                process.kill()
            process.communicate()
