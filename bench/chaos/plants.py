"""What a campaign must find: wrongs put in on purpose (`--plant`), to show that it can fail."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bench.chaos.load import Load


def _foreign_record(load: Load) -> None:
    """A record of somebody else, between the rows."""
    load.world.produce(load.topic, [b"planted"])


def _checkpoint_back(load: Load) -> None:
    _add_to_checkpoint(load, "ckpt_seq", -1)


def _checkpoint_ahead(load: Load) -> None:
    _add_to_checkpoint(load, "kafka_next_offset", 1_000_000)


def _add_to_checkpoint(load: Load, field: str, number: int) -> None:
    load.watcher.look_again()
    if load.plan.store == "sqlite":
        with closing(sqlite3.connect(load.database, timeout=10)) as db, db:
            db.execute(f"UPDATE checkpoints SET {field} = {field} + ?", (number,))
    else:
        load.world.table.update_item(
            Key={"job_id": load.job_id},
            UpdateExpression="ADD #field :number",
            ExpressionAttributeNames={"#field": field},
            ExpressionAttributeValues={":number": number},
        )
    load.watcher.look_again()


PLANTS: dict[str, Callable[[Load], None]] = {
    "foreign-record": _foreign_record,
    "checkpoint-back": _checkpoint_back,
    "checkpoint-ahead": _checkpoint_ahead,
}
