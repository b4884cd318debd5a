"""A child process and what it took: wall-clock and CPU seconds, peak memory, output. It knows no program by name."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from csv2kafka.devbroker import die_with_parent

_LAUNCHER = Path(__file__).with_name("launcher.py")


@dataclass(frozen=True, slots=True)
class Usage:
    """`cpu_s` is user and system time of the process and its children; `exit_code` is negative after a signal."""

    exit_code: int
    wall_s: float
    cpu_s: float
    peak_bytes: int
    stdout: str
    stderr: str


class ProgramFailed(Exception):
    """A measured program ended with another exit code than 0; the message has the end of what it wrote."""


class Measured:
    """One running program. `pid` is its own, for those who kill it; it dies with the thread that started it."""

    def __init__(self, command: Sequence[str], *, env: Mapping[str, str] | None = None) -> None:
        """env: changes to this process's environment."""
        self._command = command
        read_fd, write_fd = os.pipe()
        self._report = os.fdopen(read_fd, "r")
        try:
            self._launcher = subprocess.Popen(
                die_with_parent([sys.executable, "-IS", str(_LAUNCHER), str(write_fd), *command]),
                env=os.environ | dict(env or {}),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                pass_fds=(write_fd,),
            )
        finally:
            os.close(write_fd)
        self.pid = int(self._report.readline())

    @property
    def is_running(self) -> bool:
        return self._launcher.poll() is None

    def kill(self) -> None:
        """SIGKILL to the program itself; `wait` then tells what it took until here."""
        os.kill(self.pid, signal.SIGKILL)

    def wait(self, timeout_s: float = 600.0) -> Usage:
        """Wait for its end. Raises subprocess.TimeoutExpired, after killing it."""
        try:
            stdout, stderr = self._launcher.communicate(timeout=timeout_s)
        except subprocess.TimeoutExpired:
            self._launcher.kill()  # the program dies with it
            self._launcher.communicate()
            raise
        with self._report:
            exit_code, wall_s, cpu_s, peak_bytes = self._report.read().split()
        return Usage(int(exit_code), float(wall_s), float(cpu_s), int(peak_bytes), stdout, stderr)

    def wait_for_success(self, timeout_s: float = 600.0) -> Usage:
        """As `wait`. Raises ProgramFailed for any other exit code than 0."""
        usage = self.wait(timeout_s)
        if usage.exit_code:
            command = " ".join(self._command)[:500]
            output = (usage.stdout + usage.stderr)[-3000:]
            raise ProgramFailed(f"exit code {usage.exit_code} from: {command}\n{output}")
        return usage
