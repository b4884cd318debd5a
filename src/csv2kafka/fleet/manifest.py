"""The frozen list of what a fleet loads, and into which partition each goes. Pure: data, and its text to be kept.

A rerun, on whatever machine, reads the same list: another file under the same name, or a partition more in the topic,
changes nothing of what a file's job is.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Literal

from csv2kafka.errors import JobConflict
from csv2kafka.model import Part, SourceIdentity

Placement = Literal["round-robin", "hash", "single"]
SINGLE: Placement = "single"  # all into one partition, one after the other
_VERSION = 1


@dataclass(frozen=True, slots=True)
class Entry:
    """One file, or a part of one: a job of its own. `index` counts from 0, in the manifest's order."""

    index: int
    source: SourceIdentity
    partition: int
    part: Part | None = None

    @property
    def size_bytes(self) -> int:
        return self.source.size_bytes if self.part is None else self.part.end_byte - self.part.start_byte

    @property
    def label(self) -> str:
        """For people, where the job's name says too little."""
        if self.part is None:
            return self.source.uri
        return f"{self.source.uri} from row {self.part.first_row + 1:,}"


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a fleet loads. `source` is what was listed, `created` when (ISO 8601, UTC)."""

    name: str
    source: str
    topic: str
    placement: Placement
    created: str
    entries: tuple[Entry, ...]

    def job_id(self, entry: Entry) -> str:
        return job_id(self.name, entry.index)

    @property
    def size_bytes(self) -> int:
        return sum(entry.size_bytes for entry in self.entries)

    @property
    def is_split(self) -> bool:
        """Whether it is one file in parts."""
        return any(entry.part is not None for entry in self.entries)

    @property
    def noun(self) -> str:
        """What an entry is called."""
        return "part" if self.is_split else "file"


def job_id(fleet: str, index: int) -> str:
    """The name of the job of one of a fleet's entries; names sort as the entries do."""
    return f"{fleet}/{index:05}"


def to_bytes(manifest: Manifest) -> bytes:
    """Compressed JSON: some 60 bytes an entry."""
    return zlib.compress(json.dumps({"version": _VERSION, **asdict(manifest)}, separators=(",", ":")).encode())


def from_bytes(body: bytes) -> Manifest:
    """Raises JobConflict for what this program has not written."""
    try:
        fields = json.loads(zlib.decompress(body))
        if fields.pop("version") != _VERSION:
            raise ValueError("another version")
        entries = tuple(map(_entry, fields.pop("entries")))
        return Manifest(entries=entries, **fields)
    except (ValueError, KeyError, TypeError, AttributeError, zlib.error) as error:
        raise JobConflict(
            f"the fleet's manifest makes no sense: {error}",
            hint="a newer csv2kafka may have written it; `csv2kafka reset --fleet NAME` forgets it and its jobs",
        ) from error


def _entry(fields: dict[str, object]) -> Entry:
    source, part = fields.pop("source"), fields.pop("part")
    return Entry(source=SourceIdentity(**source), part=None if part is None else Part(**part), **fields)  # type: ignore[arg-type]


def refuse_other(kept: Manifest, source: str, topic: str, placement: Placement | None, parts: int | None) -> None:
    """Raises JobConflict where a rerun asks for something else than what was frozen under its name."""
    asked: Sequence[tuple[str, object, object]] = (
        ("SOURCE", kept.source, source),
        ("TOPIC", kept.topic, topic),
        ("--placement", kept.placement, placement or kept.placement),
        ("--split", kept.is_split, parts is not None),
    )
    changes = [f"{name}: {then!r} then, {now!r} now" for name, then, now in asked if then != now]
    if changes:
        raise JobConflict(
            f"fleet {kept.name} was begun with something else ({'; '.join(changes)})",
            hint="Give what it began with, or begin another fleet with --name NEW.",
        )
