"""`csv2kafka schema`: look into a file at many places and propose a type for each column, saying how sure that is."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np

from csv2kafka import human, kindkernel, sampling
from csv2kafka.csvkernel import PADDING
from csv2kafka.errors import BadData
from csv2kafka.model import Dialect, Header, Kind, TextFormat
from csv2kafka.settings import SchemaSettings
from csv2kafka.shaping import dialect_of, opened
from csv2kafka.sources import Source

_MOST_NAMES = 40  # in a sentence
_TRUTHS = {"true", "false"}
# The order in which types are preferred. A number in fixed notation is a decimal: nothing of it can be lost.
_ORDER = (Kind.INT, Kind.DECIMAL, Kind.FLOAT, Kind.DATE, Kind.TIMESTAMP, Kind.JSON)


@dataclass(slots=True)
class Column:
    """What a column's values were like."""

    fitting: set[Kind] = field(default_factory=lambda: {*_ORDER, Kind.BOOL})
    values: int = 0
    nulls: int = 0  # the null value
    empty: int = 0

    @property
    def kind(self) -> Kind:
        if not self.values or not self.fitting:
            return Kind.STRING
        if Kind.BOOL in self.fitting:
            return Kind.BOOL
        return next(kind for kind in _ORDER if kind in self.fitting)

    @property
    def nullable(self) -> bool:
        return bool(self.nulls or (self.empty and self.kind != Kind.STRING))


@dataclass(frozen=True, slots=True)
class Proposal:
    columns: dict[str, Column]
    rows: int
    ragged: int
    sampled_bytes: int
    text_bytes: int | None  # None: not known before all of it is read
    places: int
    lost_places: int  # at which no rows could be made out

    def as_json(self) -> str:
        columns = {
            name: {"type": column.kind.value, "nullable": column.nullable} if column.nullable else column.kind.value
            for name, column in self.columns.items()
        }
        content = {
            "comment": f"proposed by csv2kafka schema: {self.confidence}",
            "columns": columns,
            "others": "refuse",
        }
        return json.dumps(content, ensure_ascii=False, indent=2)

    @property
    def confidence(self) -> str:
        rows = human.plural(self.rows, "row")
        if self.text_bytes is None:
            size = human.size(self.sampled_bytes)
            parts = [f"the first {rows} ({size}) looked at: such a file can only be read from its beginning"]
        elif self.sampled_bytes >= self.text_bytes:
            parts = [f"all {rows} looked at"]
        else:
            parts = [
                f"{rows} at {self.places} places ({self.sampled_bytes / self.text_bytes:.2%} of the file) looked at"
            ]
            missed = min(1.0, 3 / self.rows) if self.rows else 1.0
            parts.append(
                f"what fewer than {100 * missed:.2g}% of the rows have may be missed (95% sure, if it is spread evenly)"
            )
        if self.lost_places:
            parts.append(f"{self.lost_places} more places were passed over: no rows could be made out there")
        if self.ragged:
            parts.append(f"{human.plural(self.ragged, 'row')} had another number of fields than the header")
        unseen = [name for name, column in self.columns.items() if not column.values]
        if unseen:
            shown = ", ".join(unseen[:_MOST_NAMES])
            parts.append(f"without a value, and so taken for strings: {shown}")
        return "; ".join(parts)


def propose(settings: SchemaSettings) -> Proposal:
    """Raises what opening and reading a source raises, and BadData where nothing can be made out."""
    with opened(settings, region=settings.region, profile=settings.profile) as (source, text, header):
        size_bytes = source.identity.size_bytes if text == TextFormat() else None
        return _look(source, header, size_bytes, dialect_of(settings), settings.null_value)


def _look(source: Source, header: Header, size_bytes: int | None, dialect: Dialect, null_value: str | None) -> Proposal:
    columns = {name: Column() for name in header.columns}
    found = sampling.sample(source, header, size_bytes, dialect)
    rows = [row for place in found.places for row in place.rows if row]
    good = [row for row in rows if len(row) == len(columns)]
    if rows and not good:
        raise BadData(
            f"no row has {len(columns)} fields, as many as the header",
            hint="Check --delimiter, --quote, --escape and --skip-lines.",
        )
    _judge(good, columns, null_value)
    return Proposal(
        columns,
        len(rows),
        len(rows) - len(good),
        found.sampled_bytes,
        found.text_bytes,
        len(found.places),
        found.lost_places,
    )


def _judge(rows: Iterable[tuple[str, ...]], columns: dict[str, Column], null_value: str | None) -> None:
    """Each different value of a column once: the kernel's own verdicts, which cost more than a look."""
    for column, texts in zip(columns.values(), zip(*rows, strict=True), strict=False):
        counts = Counter(texts)
        if null_value is not None:
            column.nulls = counts.pop(null_value, 0)
        column.empty = counts.pop("", 0)
        column.values = sum(counts.values())
        for text in counts:
            column.fitting = {kind for kind in column.fitting if _suits(kind, text)}
            if not column.fitting:
                break


def _suits(kind: Kind, text: str) -> bool:
    """Whether a value speaks for the type. It says more than that the value would be taken."""
    if kind == Kind.BOOL:
        return text.lower() in _TRUTHS
    if kind == Kind.DECIMAL and "e" in text.lower():
        return False
    if kind == Kind.JSON and text[0] not in "{[":
        return False
    data = np.frombuffer(text.encode() + bytes(PADDING), np.uint8).copy()
    depths = np.empty(kindkernel.MAX_DEPTH, np.uint8)
    number = getattr(kindkernel, kind.name)
    return bool(kindkernel.fits(number, data, 0, len(data) - PADDING, depths))
