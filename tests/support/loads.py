"""Runs a load in this process, whole or cut short at a chosen row, and a store that forgets what it was told."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from csv2kafka import jobs
from csv2kafka.checkpoints.sqlite import SqliteStore
from csv2kafka.kafka.client import Client
from csv2kafka.kafka.sender import Footing, Sender
from csv2kafka.kafka_settings import KafkaSettings
from csv2kafka.model import Batch, Checkpoint
from csv2kafka.receipt import Receipt
from csv2kafka.settings import RunSettings


def write_csv(path: Path, rows: int) -> list[bytes]:
    """A small CSV; returns the values that its records must have."""
    fields = [(str(row), f"name {row * 7919 % 1000}") for row in range(rows)]
    path.write_text("id,name\n" + "".join(f"{id_},{name}\n" for id_, name in fields), encoding="utf-8")
    return [json.dumps({"id": id_, "name": name}, separators=(",", ":")).encode() for id_, name in fields]


class Died(Exception):
    """Stands for kill -9: nothing of the program handles it."""


class ForgetfulStore(SqliteStore):
    """Acknowledges every save, keeps the first `keep` of them: what a crash right after them would leave."""

    def __init__(self, path: Path, keep: int) -> None:
        super().__init__(path)
        self._keep = keep

    def save(self, checkpoint: Checkpoint) -> None:
        if self._keep > 0:
            self._keep -= 1
            super().save(checkpoint)


def dying_after(batches: int) -> Callable[[Client, Footing], Sender]:
    """A sender that raises Died when it is given the batch behind so many acknowledged ones."""

    class DyingSender(Sender):
        given = 0

        def can_send(self, batch: Batch) -> bool:
            self.given += 1
            if self.given > batches:
                raise Died
            return super().can_send(batch)

    return DyingSender


class Load:
    """One job on one broker. Keyword arguments of `run` are fields of RunSettings or of jobs.Parts."""

    def __init__(self, bootstrap: str, path: Path, topic: str, checkpoints: Path) -> None:
        self.bootstrap = bootstrap
        self.path = path
        self.topic = topic
        self.checkpoints = checkpoints
        self.stop = threading.Event()

    def run(self, parts: jobs.Parts | None = None, **options: Any) -> Receipt:
        kafka = KafkaSettings(bootstrap=self.bootstrap, **options.pop("kafka", {}))
        settings = RunSettings(
            **{"source": str(self.path), "topic": self.topic, "kafka": kafka, "job_id": "job", **options}
        )
        parts = parts or jobs.Parts(store=SqliteStore(self.checkpoints))
        return jobs.load(settings, parts, stop=self.stop, notify=lambda _: None)

    def die(self, *, batches: int, saves: int) -> None:
        """Run until so many batches were acknowledged, with only the first `saves` checkpoints kept."""
        store = ForgetfulStore(self.checkpoints, saves)
        try:
            self.run(jobs.Parts(store=store, sender_factory=dying_after(batches)))
        except Died:
            return
        raise AssertionError("the file was too small to die in")
