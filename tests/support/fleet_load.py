"""A fleet of the real command line over files of known rows: started, broken, run again, compared.

fleet = FleetLoad(children, broker.bootstrap, topic, tmp_path, partitions=3)
fleet.write("a.csv", 500)
assert fleet.run().returncode == 0
fleet.assert_exact()
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping
from itertools import groupby
from pathlib import Path
from typing import Any

import psutil

from tests.support.cli_load import ISOLATIONS, Ended
from tests.support.oracle import Isolation, end_offset, read_topic
from tests.support.processes import Children
from tests.support.until import until


class FleetLoad:
    """A folder of files, loaded into a topic of so many partitions; checkpoints in a SQLite database unless given."""

    def __init__(
        self,
        children: Children,
        bootstrap: str,
        topic: str,
        folder: Path,
        *,
        partitions: int,
        checkpoint: str | None = None,
        env: Mapping[str, str] | None = None,
    ) -> None:
        self.children = children
        self.bootstrap = bootstrap
        self.topic = topic
        self.partitions = partitions
        self.folder = folder / "files"
        self.folder.mkdir()
        self.checkpoint = checkpoint or f"sqlite:///{folder / 'checkpoints.db'}"
        self.env = dict(env or {})
        self.values: dict[str, list[bytes]] = {}

    def write(self, name: str, rows: int) -> Path:
        """A file whose rows, some with a newline within quotes, are nobody else's; its records are then known."""
        path = self.folder / name
        texts = [f"a\nb {row}" if row % 100 == 3 else f"text {row * 7919 % 1000}" for row in range(rows)]
        path.write_text(
            "file,row,text\n" + "".join(f'{name},{row},"{text}"\n' for row, text in enumerate(texts)), encoding="utf-8"
        )
        self.values[name] = [
            json.dumps({"file": name, "row": str(row), "text": text}, separators=(",", ":")).encode()
            for row, text in enumerate(texts)
        ]
        return path

    def start(
        self, *options: str | Path, workers: int | None = 2, env: Mapping[str, str] | None = None
    ) -> subprocess.Popen[str]:
        """workers: processes on this machine; None where `options` say what Dask scheduler there is."""
        local = () if workers is None else ("--local", str(workers))
        command = ("fleet", self.folder, self.topic, "-b", self.bootstrap, "--checkpoint", self.checkpoint)
        return self.children.start_cli(*command, *local, "--name", "fleet", *options, env={**self.env, **(env or {})})

    def wait(self, process: subprocess.Popen[str], timeout_s: float = 180) -> Ended:
        stdout, stderr = process.communicate(timeout=timeout_s)
        return Ended(process.returncode, stdout, stderr)

    def run(self, *options: str | Path, workers: int | None = 2, env: Mapping[str, str] | None = None) -> Ended:
        """To its end, with --json."""
        return self.wait(self.start("--json", *options, workers=workers, env=env))

    def runs(self, isolation: Isolation = "read_uncommitted") -> dict[int, list[tuple[str, list[bytes]]]]:
        """Of each partition in order: a file, and its records that stand there side by side."""
        return {
            partition: [
                (name, list(values))
                for name, values in groupby(
                    read_topic(self.bootstrap, self.topic, partition, isolation),
                    key=lambda value: str(json.loads(value)["file"]),
                )
            ]
            for partition in range(self.partitions)
        }

    def assert_exact(self, *without: str) -> None:
        """Both kinds of consumers see each file whole, once, in order, in one place, and nothing else."""
        wanted = sorted((name, values) for name, values in self.values.items() if values and name not in without)
        for isolation in ISOLATIONS:
            found = [run for runs in self.runs(isolation).values() for run in runs if run[0] not in without]
            assert sorted(found) == wanted

    def end(self) -> int:
        """All partitions' end offsets together: it grows while rows are sent."""
        return sum(end_offset(self.bootstrap, self.topic, partition) for partition in range(self.partitions))

    def records(self) -> int:
        return sum(len(read_topic(self.bootstrap, self.topic, partition)) for partition in range(self.partitions))


def files_of(ended: Ended) -> list[dict[str, Any]]:
    """The entries' own receipts, out of a fleet's."""
    files: Any = ended.receipt["files"]
    return list(files)


def workers_of(driver: subprocess.Popen[str]) -> list[psutil.Process]:
    """The processes that load for a driver with --local: the same as Dask's nannies started."""
    try:
        below = psutil.Process(driver.pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return []
    return [process for process in below if _is_worker(process)]


def _is_worker(process: psutil.Process) -> bool:
    try:
        return "spawn_main" in " ".join(process.cmdline())
    except psutil.Error:
        return False


def first_worker(driver: subprocess.Popen[str]) -> psutil.Process:
    """As soon as there is one."""
    return until(lambda: workers_of(driver), "the driver starts workers")[0]
