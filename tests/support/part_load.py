"""Loads one part of a file, as a program that can be killed: python -m tests.support.part_load '{"source": ..., ...}'.

And for tests: a file of known rows, its parts, and what the topic must hold of them.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from csv2kafka import failpoints, jobs, receipt
from csv2kafka.errors import Csv2KafkaError
from csv2kafka.kafka_settings import KafkaSettings
from csv2kafka.model import Part
from csv2kafka.settings import RunSettings
from tests.support.cli_load import Ended
from tests.support.oracle import Isolation, iter_messages
from tests.support.processes import Children

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True, slots=True)
class Row:
    """A row of the file, as its record and the record's headers tell of it."""

    number: int  # from 1
    byte_offset: int
    value: bytes


class PartedFile:
    """A CSV with quoted newlines among its rows; `bad` are row numbers (from 1) with a field too many."""

    def __init__(self, path: Path, rows: int, bad: tuple[int, ...] = ()) -> None:
        self.path = path
        header = b"id,name\n"
        texts = [f'{row},"a\nb {row * 7919 % 1000}"\n' for row in range(1, rows + 1)]
        for number in bad:
            texts[number - 1] = f"{number},b,c\n"
        self.rows: list[Row] = []
        self._ends = [len(header)]  # of row n at n
        for number, text in enumerate(texts, 1):
            fields = {"id": str(number), "name": f"a\nb {number * 7919 % 1000}"}
            self.rows.append(Row(number, self._ends[-1], json.dumps(fields, separators=(",", ":")).encode()))
            self._ends.append(self._ends[-1] + len(text))
        path.write_bytes(header + "".join(texts).encode())

    def part(self, first_row: int, end_row: int) -> Part:
        """Rows `first_row` + 1 to `end_row`."""
        return Part(first_row, self._ends[first_row], self._ends[end_row])

    def parts(self, count: int) -> list[Part]:
        """All rows, in parts of different sizes."""
        cuts = [len(self.rows) * number**2 // count**2 for number in range(count + 1)]
        return [self.part(*cut) for cut in pairwise(cuts)]


class PartLoad:
    """One part under a job id of its own, into a partition of its own: `partition` names both."""

    def __init__(
        self, children: Children, bootstrap: str, topic: str, file: PartedFile, part: Part, partition: int = 0
    ) -> None:
        self._children = children
        self.bootstrap = bootstrap
        self.partition = partition
        self.checkpoint = f"sqlite:///{file.path.parent / 'checkpoints.db'}"
        self.job_id = f"part-{partition}"
        self.wanted: dict[str, Any] = {
            "source": str(file.path),
            "topic": topic,
            "partition": partition,
            "bootstrap": bootstrap,
            "job_id": self.job_id,
            "checkpoint_url": self.checkpoint,
            "headers": "provenance",
            "part": asdict(part),
        }

    def start(self, env: Mapping[str, str] | None = None, **changes: Any) -> subprocess.Popen[str]:
        wanted = json.dumps({**self.wanted, **changes})
        return self._children.start([sys.executable, "-m", "tests.support.part_load", wanted], env=env, cwd=ROOT)

    def run(self, env: Mapping[str, str] | None = None, **changes: Any) -> Ended:
        process = self.start(env, **changes)
        return Ended(*_outcome(process))

    def crash_at(self, step: str, number: int = 1, **changes: Any) -> None:
        """Run until the step kills the process; fails when the process ends in any other way."""
        ended = self.run({"CSV2KAFKA_CRASH_AT": f"{step}:{number}"}, **changes)
        assert ended.returncode == -signal.SIGKILL, f"never came to {step}:{number}: {ended}"

    def read(self, isolation: Isolation = "read_uncommitted") -> list[Row]:
        """The partition's records in order."""
        return [
            Row(int(headers["csv.row"] or b""), int(headers["file.offset"] or b""), message.value() or b"")
            for messages in iter_messages(self.bootstrap, self.wanted["topic"], self.partition, isolation)
            for message in messages
            for headers in (dict(message.headers() or ()),)
        ]


def _outcome(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    stdout, stderr = process.communicate(timeout=120)
    return process.returncode, stdout, stderr


def main(wanted: dict[str, Any]) -> int:
    """Print the receipt or the error as JSON; return the exit code."""
    failpoints.arm(os.environ)
    part = Part(**wanted.pop("part")) if wanted.get("part") else wanted.pop("part", None)
    settings = RunSettings(kafka=KafkaSettings(bootstrap=wanted.pop("bootstrap")), **wanted)
    try:
        done = jobs.load(settings, jobs.Parts(part=part), stop=threading.Event(), notify=lambda _: None)
    except Csv2KafkaError as error:
        print(json.dumps({"error": error.message, "hint": error.hint}))
        return error.exit_code
    print(json.dumps({**receipt.as_dict(done), "words": receipt.as_text(done)}))
    return 0


if __name__ == "__main__":
    sys.exit(main(json.loads(sys.argv[1])))
