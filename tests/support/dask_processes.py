"""A Dask scheduler and workers as processes of their own, as they run on a cluster of several machines."""

from __future__ import annotations

import json
import subprocess
import sys
import uuid
from collections.abc import Mapping
from pathlib import Path

from tests.support.processes import Children
from tests.support.until import until


class DaskProcesses:
    """`scheduler` is running, its `address` is known; workers (one thread each) come as they are started."""

    def __init__(self, children: Children, folder: Path, env: Mapping[str, str] | None = None) -> None:
        self._children = children
        self._folder = folder
        self._env = dict(env or {})
        told = folder / f"scheduler-{uuid.uuid4().hex[:8]}.json"
        self.scheduler = self._start("scheduler", "--port", "0", "--no-dashboard", "--scheduler-file", str(told))
        until(told.exists, "the scheduler tells its address", patience_s=60)
        self.address = str(json.loads(told.read_text())["address"])

    def start_worker(self, *options: str) -> subprocess.Popen[str]:
        spool = ("--local-directory", str(self._folder))
        return self._start("worker", self.address, "--nthreads", "1", "--no-dashboard", *spool, *options)

    def _start(self, role: str, *arguments: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", f"distributed.cli.dask_{role}", *arguments, "--host", "127.0.0.1"]
        return self._children.start(command, env=self._env)
