"""What a parsed row must become, told by Python's own json, csv, re and datetime, and by kafka-python's partitioner.

The reference for everything beyond parsing: types, nulls, keys, headers, formats. Nothing of the package is imported.
"""

from __future__ import annotations

import csv
import io
import json
import math
import re
from dataclasses import dataclass
from datetime import date
from typing import Any

from kafka.partitioner.default import murmur2

to_json = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode  # json.dumps makes one for each call

BAD_VALUE = "no such value"
BAD_NULL = "no value"
MAX_DEPTH = 512
_NUMBER = re.compile(r"-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?")
_INT = re.compile(r"-?(0|[1-9][0-9]*)")
_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_TIME = re.compile(
    r"[T ]([01][0-9]|2[0-3]):[0-5][0-9](:[0-5][0-9](\.[0-9]+)?)?(Z|[+-]([01][0-9]|2[0-3])(:?[0-5][0-9])?)?"
)


@dataclass(frozen=True, slots=True)
class Rule:
    """What is to be made of a column; `nullable` None: as without a schema."""

    kind: str = "string"
    nullable: bool | None = None
    dropped: bool = False
    renamed: bool = False


@dataclass(frozen=True, slots=True)
class Recipe:
    """Options of a load, without its columns. `rules` are used for the columns in turn, over again."""

    rules: tuple[Rule, ...] | None = None
    null_value: str | None = None
    key: tuple[int, ...] = ()  # numbers of columns, taken modulo their count
    value_format: str = "json"
    file_name: str | None = None
    headers: tuple[tuple[str, str], ...] = ()
    skip_lines: int = 0
    has_header: bool = True
    columns: tuple[str, ...] | None = None

    def rules_for(self, columns: int) -> tuple[Rule, ...]:
        given = self.rules or (Rule(),)
        rules = [given[number % len(given)] for number in range(columns)]
        if all(rule.dropped for rule in rules):
            rules[0] = Rule(rules[0].kind, rules[0].nullable)
        return tuple(rules)

    def key_columns(self, columns: int) -> tuple[int, ...]:
        return tuple(dict.fromkeys(number % columns for number in self.key))

    def name_of(self, name: str, rule: Rule) -> str:
        return f"{name} (new)" if rule.renamed else name


@dataclass(frozen=True, slots=True)
class Record:
    value: bytes
    key: bytes | None = None
    headers: tuple[tuple[str, bytes], ...] = ()

    def lane(self, lanes: int) -> int:
        return 0 if self.key is None else (murmur2(self.key) & 0x7FFFFFFF) % lanes


PLAIN = Recipe()


def fault(text: str, rule: Rule, recipe: Recipe) -> str | None:
    """Why the text may not stand in such a column, or None."""
    if text == recipe.null_value:
        if rule.nullable is False or (rule.nullable is None and not text and rule.kind != "string"):
            return BAD_NULL
        return None
    if not text:
        return BAD_NULL if not rule.nullable and rule.kind != "string" else None
    return None if _fits(rule.kind, text) else BAD_VALUE


def record_of(fields: list[str], columns: tuple[str, ...], recipe: Recipe, raw: bytes, row: int, at: int) -> Record:
    """The record of a row without a fault: number `row` from 1, at byte `at` of the text."""
    rules = recipe.rules_for(len(columns))
    kept = [number for number, rule in enumerate(rules) if not rule.dropped]
    if recipe.value_format == "raw":
        value = raw
    elif recipe.value_format == "csv":
        value = _csv_of([fields[number] for number in kept]).encode()
    else:
        pairs = (
            to_json(recipe.name_of(columns[number], rules[number]))
            + ":"
            + _json_of(fields[number], rules[number], recipe)
            for number in kept
        )
        value = ("{" + ",".join(pairs) + "}").encode()
    parts = [fields[number] for number in recipe.key_columns(len(columns))]
    key = None
    if parts:
        key = (parts[0] if len(parts) == 1 else to_json(parts)).encode()
    return Record(value, key, _headers_of(recipe, row, at))


def _headers_of(recipe: Recipe, row: int, at: int) -> tuple[tuple[str, bytes], ...]:
    fixed = tuple((name, value.encode()) for name, value in recipe.headers)
    if recipe.file_name is None:
        return fixed
    name = ("file.name", recipe.file_name.encode())
    return (name, *fixed, ("file.offset", str(at).encode()), ("csv.row", str(row).encode()))


def _json_of(text: str, rule: Rule, recipe: Recipe) -> str:
    if text == recipe.null_value or (not text and rule.nullable):
        return "null"
    if rule.kind == "bool":
        return "true" if text.lower() in ("true", "t", "1") else "false"
    return to_json(text) if rule.kind in ("string", "date", "timestamp") else text


def _csv_of(fields: list[str]) -> str:
    out = io.StringIO(newline="")
    csv.writer(out).writerow(fields)
    return out.getvalue().removesuffix("\r\n")


def _fits(kind: str, text: str) -> bool:
    if kind == "int":
        return _INT.fullmatch(text) is not None
    if kind in ("decimal", "float"):
        return _NUMBER.fullmatch(text) is not None and (kind == "decimal" or math.isfinite(float(text)))
    if kind == "bool":
        return text in ("1", "0") or (text.isascii() and text.lower() in ("true", "false", "t", "f"))
    if kind == "date":
        return _is_date(text)
    if kind == "timestamp":
        return _is_date(text[:10]) and _TIME.fullmatch(text[10:]) is not None
    return kind != "json" or _is_json(text)


def _is_date(text: str) -> bool:
    if _DATE.fullmatch(text) is None:
        return False
    try:
        date.fromisoformat(text)
    except ValueError:
        return False
    return True


def _is_json(text: str) -> bool:
    def refuse(word: str) -> Any:
        raise ValueError(word)

    try:
        parsed = json.loads(text, parse_constant=refuse, parse_int=str, parse_float=str)
    except (ValueError, RecursionError):
        return False
    return _depth(parsed) <= MAX_DEPTH


def _depth(parsed: Any) -> int:
    depth, level = 0, [parsed]
    while level := [part for part in level if isinstance(part, dict | list)]:
        depth += 1
        level = [inner for part in level for inner in (part.values() if isinstance(part, dict) else part)]
    return depth
