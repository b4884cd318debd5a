"""What a load is and what befalls it: everything is drawn here, from the campaign's seed and the load's number alone.

Nothing is done here. Whoever acts on a plan draws the details (how long, how often) from a generator of its own for
each round and purpose, so that no timing changes what comes after.
"""

from __future__ import annotations

import csv
import random
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

CODECS = ("lz4", "zstd", "gzip", "snappy", "none")
TEXTS = ("plain", 'a "quoted" word', "two\nlines", "x,y;z", "Grüße 日本", "", "\ttab", "long " * 60)
MESSAGE_BYTES = (None, None, 20_000, 60_000, 200_000)  # None: the broker's default, 1 MiB
MOST_FIELDS = 1_200_000  # in a file: more would only take longer to compare


class Choice(Protocol):
    """A row of one of the tables that a plan chooses from."""

    @property
    def weight(self) -> int: ...
    @property
    def target(self) -> str: ...
    @property
    def needs(self) -> str | None: ...


@dataclass(frozen=True, slots=True)
class Round:
    """One start of the loader: how it ends, and what befalls the world meanwhile."""

    ending: str
    faults: tuple[str, ...]

    def __str__(self) -> str:
        return "+".join((self.ending, *self.faults))


@dataclass(frozen=True, slots=True)
class Plan:
    """One load. `needs` of a fault or an ending is a store or a source: it fits only loads that use it."""

    seed: int
    number: int
    rows: int
    columns: int
    noise_bits: int  # of random text in each row, which no codec can make small
    line_end: str
    delimiter: str
    has_bom: bool
    older_records: int  # of somebody else, in the topic before the load begins
    checkpoint_interval_rows: int | None
    codec: str
    max_message_bytes: int | None
    round_trip_s: float
    store: Literal["sqlite", "dynamodb"]
    source: Literal["local", "s3"]
    rounds: tuple[Round, ...]

    def rng(self, *purpose: object) -> random.Random:
        return random.Random("/".join(map(str, (self.seed, self.number, *purpose))))

    def __str__(self) -> str:
        limit = f", messages of {self.max_message_bytes:,} bytes" if self.max_message_bytes else ""
        return f"{self.rows:,} rows, {self.source} -> {self.codec}{limit}, {self.store}"


def draw(seed: int, number: int, faults: Mapping[str, Choice], endings: Mapping[str, Choice], last: str) -> Plan:
    """The load of this number in the campaign of this seed. `last` is how its last round ends."""
    rng = random.Random(f"{seed}/{number}")
    columns = rng.randrange(1, 9)
    rows = min(rng.randrange(50_000, 400_000), MOST_FIELDS // columns)
    store: Literal["sqlite", "dynamodb"] = rng.choice(("sqlite", "dynamodb"))
    source: Literal["local", "s3"] = rng.choice(("local", "local", "s3"))
    has = {store, source, None}
    return Plan(
        seed,
        number,
        rows,
        columns,
        noise_bits=rng.choice((0, 64, 256)),
        line_end=rng.choice(("\n", "\r\n", "\r")),
        delimiter=rng.choice((",", ",", ";", "\t")),
        has_bom=rng.random() < 0.3,
        older_records=rng.choice((0, 0, 7)),
        checkpoint_interval_rows=rng.choice((None, None, 500, 20_000)),
        codec=rng.choice(CODECS),
        max_message_bytes=rng.choice(MESSAGE_BYTES),
        round_trip_s=rng.choice((0.0, 0.0, 0.001, 0.005, 0.02)),
        store=store,
        source=source,
        rounds=tuple(
            Round(ending, _some(rng, faults, has, rng.choice((0, 0, 1, 1, 2))))
            for ending in (*(_one(rng, endings, has) for _ in range(rng.randrange(4, 12))), last)
        ),
    )


def _one(rng: random.Random, table: Mapping[str, Choice], has: set[str | None]) -> str:
    names = [name for name, choice in table.items() if choice.needs in has]
    return rng.choices(names, [table[name].weight for name in names])[0]


def _some(rng: random.Random, faults: Mapping[str, Choice], has: set[str | None], count: int) -> tuple[str, ...]:
    """So many faults, each of another part of the world."""
    chosen: dict[str, str] = {}
    for _ in range(count):
        name = _one(rng, faults, has)
        chosen.setdefault(faults[name].target, name)
    return tuple(chosen.values())


def write_file(plan: Plan, path: Path) -> None:
    """The plan's CSV. Its first column is the row's number, so that a wrong record tells where it came from."""
    rng = plan.rng("file")
    texts = [text.replace("\n", plan.line_end) for text in TEXTS]  # Python's csv quotes no other line end
    pool = [tuple(rng.choice(texts) for _ in range(plan.columns)) for _ in range(500)]
    with path.open("w", encoding="utf-8-sig" if plan.has_bom else "utf-8", newline="") as file:
        writer = csv.writer(file, delimiter=plan.delimiter, lineterminator=plan.line_end)
        writer.writerow(("row", *(f"column {number}" for number in range(plan.columns)), "noise"))
        writer.writerows(
            (row, *pool[row * 7919 % len(pool)], f"{rng.getrandbits(plan.noise_bits):x}" if plan.noise_bits else "")
            for row in range(1, plan.rows + 1)
        )
