"""Reads a job's checkpoint again and again while it is being loaded: it never runs ahead of the log, never goes back.

Each store is read as it stands, by its own client; of the loader's code nothing may be used here.
"""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

from bench.chaos.log import Log
from bench.chaos.oracle import Violation

Item = Mapping[str, Any]

_RISING = ("lease_epoch", "ckpt_seq", "last_line", "total_sent", "byte_offset", "kafka_next_offset")
_PAUSE_S = 0.02


def sqlite_reader(path: Path, job_id: str) -> Callable[[], Item]:
    """A function that returns the job's row as it is now, empty when there is none (yet)."""

    def read() -> Item:
        try:
            with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=1)) as db:
                db.row_factory = sqlite3.Row
                row = db.execute("SELECT * FROM checkpoints WHERE job_id = ?", (job_id,)).fetchone()
        except sqlite3.OperationalError:  # not made yet, or locked for a moment
            return {}
        return dict(row) if row else {}

    return read


def dynamodb_reader(table: Any, job_id: str) -> Callable[[], Item]:
    def read() -> Item:
        return dict(table.get_item(Key={"job_id": job_id}, ConsistentRead=True).get("Item", {}))

    return read


class Watcher:
    """Watches in a thread of its own until `close`. `check` raises in the caller's thread what it has found."""

    def __init__(self, read: Callable[[], Item], log: Log) -> None:
        self.read = read
        self.readings = 0
        self._log = log
        self._last: dict[str, int] = {}
        self._found: Exception | None = None
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="checkpoint-watcher", daemon=True)
        self._thread.start()

    def check(self) -> None:
        """Raises Violation once anything was wrong."""
        if self._found is not None:
            raise self._found

    @property
    def is_watching(self) -> bool:
        """False once it has found something."""
        return self._thread.is_alive()

    def look_again(self) -> None:
        """Return when what the store holds now was held against the log, or something wrong was found."""
        enough = self.readings + 2  # the first may have begun before
        while self.is_watching and self.readings < enough:
            time.sleep(_PAUSE_S)

    def close(self) -> None:
        self._closing.set()
        self._thread.join()

    def _watch(self) -> None:
        try:
            while not self._closing.wait(_PAUSE_S):
                self._look()
        except Exception as error:  # noqa: BLE001 - raised in the thread that asks
            self._found = error

    def _look(self) -> None:
        item = self.read()
        now = {name: int(item[name]) for name in _RISING if item.get(name) is not None}
        for name, value in now.items():
            if value < self._last.get(name, 0):
                raise Violation(f"the checkpoint went back: {name} was {self._last[name]}, now it is {value}")
        self._last |= now
        if not item:
            return
        end = self._log.end_now()
        if end is None:  # the next reading will do: it can only ask more of the log
            return
        if "kafka_next_offset" in now:
            sent = end - int(item["first_offset"])
            if now["kafka_next_offset"] > end or now["last_line"] > sent:
                raise Violation(
                    f"the checkpoint is ahead of the log, which ends at {end}: kafka_next_offset "
                    f"{now['kafka_next_offset']}, last_line {now['last_line']}, first_offset {item['first_offset']}"
                )
        self.readings += 1
