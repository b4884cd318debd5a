"""One start of the real command line: its output in files that outlive it, its exit, and signals to it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from csv2kafka.devbroker import die_with_parent

_LOOK_S = 0.004  # without a pause between questions, asking would take a core of its own
_NEVER = ("Traceback (most recent call last)", "this is a bug")


class Loader:
    """`python -m csv2kafka ARGUMENTS`, started now. `end_before` is the log's end at that moment."""

    def __init__(
        self, name: str, arguments: Sequence[str], env: Mapping[str, str], folder: Path, end_before: int
    ) -> None:
        self.name = name
        self.end_before = end_before
        self._stdout, self._stderr = (folder / f"{name}.{kind}" for kind in ("stdout", "stderr"))
        with self._stdout.open("w") as stdout, self._stderr.open("w") as stderr:
            self._process = subprocess.Popen(
                die_with_parent([sys.executable, "-m", "csv2kafka", *arguments]),
                env=env,
                stdin=subprocess.DEVNULL,
                stdout=stdout,
                stderr=stderr,
            )

    @property
    def exit_code(self) -> int | None:
        """Negative for a signal, None while it runs."""
        return self._process.poll()

    def has_ended(self) -> bool:
        """Looks for a few milliseconds."""
        return self.wait(_LOOK_S) is not None

    def wait(self, seconds: float) -> int | None:
        """The exit code, None if it runs for longer than that."""
        try:
            return self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            return None

    def send(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    def stop(self) -> bool:
        """Have it stand still (SIGSTOP); True when it does, False when it ended before."""
        self.send(signal.SIGSTOP)
        if self._process.returncode is not None:  # seen, and buried, while sending
            return False
        state = os.waitid(os.P_PID, self._process.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)
        return state is not None and state.si_code == os.CLD_STOPPED

    def close(self) -> None:
        self._process.kill()
        self._process.wait()

    def receipt(self) -> dict[str, Any]:
        """What it printed as its result, empty when it printed nothing."""
        text = self._stdout.read_text()
        return dict(json.loads(text)) if text.strip() else {}

    def said(self, text: str) -> bool:
        """Whether this is on its stderr; a run that holds the job's lease begins by saying which job it is."""
        return text in self._stderr.read_text(errors="replace")

    def complaint(self) -> str | None:
        """What on its stderr must never be there."""
        return next((f"stderr has {sign!r}" for sign in _NEVER if self.said(sign)), None)

    def last_words(self) -> str:
        return "\n".join(self._stderr.read_text(errors="replace").splitlines()[-12:])
