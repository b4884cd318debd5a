"""A case of the fuzzing as data: how a file is read, cut and encoded; and what its comparisons share.

No test framework here, so that a bare child process can use it.
"""

from __future__ import annotations

import ast
import itertools
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import cast

from csv2kafka import recordbatch
from csv2kafka.csvkernel import PADDING
from csv2kafka.encoder import Encoder
from csv2kafka.model import Dialect, Field, Kind, Naming, RecordShape, ValueFormat
from csv2kafka.quarantine import SetApart
from tests.support import csv_oracle
from tests.support.csv_oracle import Expected
from tests.support.record_oracle import PLAIN, Recipe, Record

TOO_LARGE = "too large"


@dataclass(frozen=True, slots=True)
class Setup:
    """Everything about a case that must not change its records. Chunk and block sizes are used in turn, over again."""

    dialect: Dialect = field(default_factory=Dialect)
    chunk_bytes: tuple[int, ...] = (1 << 20,)
    block_bytes: tuple[int, ...] = (1 << 20,)
    codec: str = "none"
    max_batch_bytes: int = 1 << 30
    recipe: Recipe = PLAIN
    lanes: int = 1

    @property
    def naming(self) -> Naming:
        return Naming(self.recipe.skip_lines, self.recipe.has_header, self.recipe.columns)

    def expected(self, data: bytes) -> Expected:
        dialect = self.dialect
        return csv_oracle.expect(data, dialect.delimiter, dialect.quote, dialect.escape, self.recipe)

    def shape(self, columns: tuple[str, ...]) -> RecordShape:
        """The recipe in the package's own words."""
        recipe = self.recipe
        fields = tuple(
            Field(recipe.name_of(name, rule), Kind(rule.kind), rule.nullable, rule.dropped)
            for name, rule in zip(columns, recipe.rules_for(len(columns)), strict=True)
        )
        return RecordShape(
            columns,
            self.dialect,
            self.naming,
            recipe.null_value,
            fields if recipe.rules else None,
            tuple(columns[number] for number in recipe.key_columns(len(columns))),
            cast(ValueFormat, recipe.value_format),
            recipe.file_name,
            recipe.headers,
        )

    def encoder(self, columns: tuple[str, ...], apart: SetApart | None = None) -> Encoder:
        limit_bytes = self.max_batch_bytes if apart is None else 1 << 30
        return Encoder(self.shape(columns), recordbatch.CODECS[self.codec], limit_bytes, self.lanes, apart)


class Different(Exception):
    """The chain and the oracle disagree; the message says where and shows both."""


def chunks(data: bytes, sizes: tuple[int, ...]) -> Iterator[bytes]:
    at = 0
    for size in itertools.cycle(sizes):
        if at >= len(data):
            return
        yield data[at : at + size]
        at += size


def padded(data: bytes) -> bytes:
    """The bytes with exactly as much behind them as the kernel may read; junk, for it must not matter."""
    return data + (b'a"\n,\xff\r\0' * PADDING)[:PADDING]


def fault_of(reason: str, columns: tuple[str, ...]) -> tuple[str, int]:
    """The reason in the oracle's words: (why, fields)."""
    if reason == "is not valid UTF-8":
        return csv_oracle.NOT_UTF8, 0
    if reason == "has a quote that is never closed":
        return csv_oracle.UNCLOSED, 0
    if reason.startswith("makes a record batch of"):
        return TOO_LARGE, 0
    if found := re.fullmatch(r"has (\d+) fields? where the header has \d+", reason):
        return csv_oracle.RAGGED, int(found[1])
    if found := re.fullmatch(r"has no (\w+) in column (?:(\d+), )?(.*?)(, which is not nullable)?", reason, re.DOTALL):
        why = csv_oracle.BAD_NULL if found[4] else csv_oracle.BAD_VALUE
        return why, int(found[2]) - 1 if found[2] else columns.index(ast.literal_eval(found[3]))
    return reason, 0


def by_lane(records: Sequence[Record], setup: Setup) -> dict[int, list[Record]]:
    lanes: dict[int, list[Record]] = {}
    for record in records:
        lanes.setdefault(record.lane(setup.lanes), []).append(record)
    return lanes


def check(same: object, what: str, *shown: object) -> None:
    if not same:
        raise Different(f"{what}: " + " | expected ".join(repr(side)[:2000] for side in shown))
