"""The schema file: a JSON object that says what each column is, what it is called in records, and what is left out.

    {"columns": {"id": "int", "name": {"type": "string", "nullable": true, "name": "full_name"}, "note": "drop"},
     "others": "string"}

Reads and checks; what a type means is decided by the kernel (kindkernel.py).
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from csv2kafka.errors import UsageError
from csv2kafka.model import Field, Kind

Others = Literal["string", "drop", "refuse"]
DROP = "drop"
_TYPES = (*(kind.value for kind in Kind), DROP)
_COLUMN_KEYS = ("type", "nullable", "name", "drop")
_KEYS = ("columns", "others", "comment")


@dataclass(frozen=True, slots=True)
class Schema:
    """`columns`: what was said of the columns that were named; `others`: what becomes of the rest."""

    origin: str
    columns: dict[str, Field]
    others: Others = "string"

    def fields(self, columns: tuple[str, ...]) -> tuple[Field, ...]:
        """What becomes of each of the file's columns. Raises UsageError where file and schema do not fit together."""
        for name in self.columns:
            if name not in columns:
                raise UsageError(f"{self.origin}: the file has no column {name!r}", hint=_near(name, columns))
        rest = [name for name in columns if name not in self.columns]
        if rest and self.others == "refuse":
            raise UsageError(
                f"{self.origin} says nothing of {_listed(rest)}",
                hint='Add them to "columns", or say "others": "string" or "drop".',
            )
        fields = tuple(self.columns.get(name) or Field(name, dropped=self.others == DROP) for name in columns)
        self._refuse_clashes(fields)
        return fields

    def _refuse_clashes(self, fields: tuple[Field, ...]) -> None:
        kept = [field.name for field in fields if not field.dropped]
        if not kept:
            raise UsageError(f"{self.origin} drops every column", hint="Keep one at least.")
        twice = [name for name in dict.fromkeys(kept) if kept.count(name) > 1]
        if twice:
            raise UsageError(
                f"{self.origin} gives two columns the name {twice[0]!r}", hint="A JSON record can hold a key only once."
            )


def load(path: Path) -> Schema:
    """The schema in the file at `path`. Raises UsageError for one that cannot be read or has no meaning."""
    origin = f"--schema {path}"
    try:
        content = json.loads(path.read_text("utf-8"), object_pairs_hook=_once)
    except OSError as error:
        raise UsageError(
            f"{origin}: {error.strerror}", hint="Check the path; csv2kafka schema SOURCE proposes one."
        ) from None
    except ValueError as error:  # JSONDecodeError tells line and column
        raise UsageError(f"{origin} cannot be read as JSON: {error}", hint="Correct the file.") from None
    return parse(content, origin)


def parse(content: Any, origin: str) -> Schema:
    """The schema that the JSON value is. Raises UsageError."""
    if not isinstance(content, dict) or not isinstance(content.get("columns"), dict):
        raise UsageError(f'{origin} has no object "columns"', hint='{"columns": {"id": "int", "name": "string"}}')
    _refuse_unknown(content, _KEYS, origin)
    others = content.get("others", "string")
    if others not in get_args(Others):
        raise UsageError(f'{origin}: "others" is {others!r}', hint='It may be "string", "drop" or "refuse".')
    columns = {name: _field(name, told, f"{origin}: column {name!r}") for name, told in content["columns"].items()}
    return Schema(origin, columns, others)


def _field(name: str, told: Any, origin: str) -> Field:
    told = {"type": told} if isinstance(told, str) else told
    if not isinstance(told, dict):
        raise UsageError(
            f"{origin} is neither a type nor an object", hint='"int", or {"type": "int", "nullable": true}'
        )
    _refuse_unknown(told, _COLUMN_KEYS, origin)
    kind = told.get("type", Kind.STRING.value)
    if kind not in _TYPES:
        raise UsageError(f"{origin} has no type {kind!r}", hint=_near(str(kind), _TYPES))
    dropped = told.get("drop", kind == DROP)
    nullable = told.get("nullable")
    for key, flag in (("drop", dropped), ("nullable", nullable)):
        if key in told and not isinstance(flag, bool):
            raise UsageError(f'{origin}: "{key}" is {flag!r}', hint="It may be true or false.")
    new_name = told.get("name", name)
    if not isinstance(new_name, str) or not new_name:
        raise UsageError(f'{origin}: "name" is {new_name!r}', hint="Give the key that the column gets in the records.")
    kind = Kind.STRING if kind == DROP else Kind(kind)
    if nullable is None and kind != Kind.STRING:
        nullable = False
    return Field(new_name, kind, nullable, dropped)


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise ValueError(f"{key!r} stands twice in one object")
        found[key] = value
    return found


def _refuse_unknown(given: dict[str, Any], known: tuple[str, ...], origin: str) -> None:
    for key in given:
        if key not in known:
            raise UsageError(f"{origin}: {key!r} has no meaning here", hint=_near(key, known))


def _near(name: str, known: Iterable[str]) -> str:
    known = tuple(known)
    near = difflib.get_close_matches(name, known, n=1)
    return f"did you mean {near[0]!r}?" if near else f"known: {_listed(known)}"


def _listed(names: Iterable[str]) -> str:
    names = [repr(name) for name in names]
    return ", ".join(names[:20]) + (f" and {len(names) - 20} more" if len(names) > 20 else "")
