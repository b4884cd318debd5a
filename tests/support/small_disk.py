"""A small disk that only the programs started on it see, and that vanishes with the last of them in any case.

Needs Linux, and root or the right to make user namespaces.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.support.processes import Children

_HOLD = 'mount -t tmpfs -o "size=$1" tmpfs "$0" && echo mounted && exec cat'  # cat waits until the test has ended


class SmallDisk(Children):
    """Starts programs as `Children` does; for them, `folder` is the disk. All others find it at `seen_from_here`."""

    def __init__(self, folder: Path, size: str = "1m") -> None:
        super().__init__()
        folder.mkdir()
        self._folder = folder
        as_root = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
        self._holder = super().start(
            ["unshare", "--mount", *as_root, "sh", "-c", _HOLD, str(folder), size], stdin=subprocess.PIPE
        )
        assert self._holder.stdout is not None
        if self._holder.stdout.readline() != "mounted\n":
            raise AssertionError(f"no disk could be mounted: {self._holder.communicate()}")
        self._enter = ["nsenter", f"--target={self._holder.pid}", "--mount"]
        self._enter += ["--user", "--preserve-credentials"] if as_root else []
        self.seen_from_here = Path(f"/proc/{self._holder.pid}/root", *folder.parts[1:])

    def start(
        self,
        command: Sequence[str],
        *,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        stdin: int = subprocess.DEVNULL,
    ) -> subprocess.Popen[str]:
        return super().start([*self._enter, *command], env=env, cwd=cwd or Path.cwd(), stdin=stdin)

    def fill(self) -> None:
        """Leave no byte free."""
        with (self.seen_from_here / "filler").open("wb", buffering=0) as filler:
            for block in (b"x" * 4096, b"x"):
                try:
                    while filler.write(block):
                        pass
                except OSError:
                    continue

    def make_room(self) -> None:
        (self.seen_from_here / "filler").unlink()
