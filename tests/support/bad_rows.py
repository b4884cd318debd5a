"""A file some of whose rows cannot become records, and what must be found of them where they are set apart."""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support.cli_load import ISOLATIONS, CliLoad
from tests.support.oracle import Isolation, iter_messages
from tests.support.processes import Children

QUARANTINE = ("--bad-rows", "quarantine")

REASONS = ("has 1 field where the header has 2", "has 3 fields where the header has 2", "is not valid UTF-8")


@dataclass(frozen=True, slots=True)
class BadRow:
    row: int  # from 1
    byte_offset: int
    text: bytes
    reason: str


def write_mixed_csv(path: Path, rows: int, every: int = 7) -> tuple[list[bytes], list[BadRow]]:
    """(the values of the good rows, the bad ones): each `every`th row is bad, and some that follow each other."""
    parts = [b"id,name\n"]
    good: list[bytes] = []
    bad: list[BadRow] = []
    at = len(parts[0])
    for row in range(rows):
        name = f"name {row * 7919 % 1000}"
        if row % every in (3, 4 if row % 4 else 3):
            kind = row % 3
            text = (b"%d" % row, b'%d,"a\nb",x' % row, b"%d,\xff" % row)[kind]
            bad.append(BadRow(row + 1, at, text, REASONS[kind]))
        else:
            text = f"{row},{name}".encode()
            good.append(json.dumps({"id": str(row), "name": name}, separators=(",", ":")).encode())
        parts.append(text + b"\n")
        at += len(parts[-1])
    path.write_bytes(b"".join(parts))
    return good, bad


def in_topic(bootstrap: str, topic: str, source: str, isolation: Isolation = "read_uncommitted") -> list[BadRow]:
    """The rows in a dead-letter topic, in order. Raises AssertionError where a header is not as it must be."""
    found = []
    for messages in iter_messages(bootstrap, topic, isolation=isolation):
        for message in messages:
            headers = {name: value for name, value in message.headers() or () if isinstance(value, bytes)}
            text = message.value() or b""
            assert headers["file.name"] == source.encode()
            assert headers["file.version"]
            assert int(headers["file.length"]) == len(text)
            assert message.key() is None
            place = int(headers["csv.row"]), int(headers["file.offset"])
            found.append(BadRow(*place, text, headers["error.reason"].decode()))
    return found


def in_file(path: Path, source: str) -> list[BadRow]:
    return [of_line(line, source) for line in path.read_bytes().splitlines()]


def of_line(line: bytes, source: str) -> BadRow:
    fields: dict[str, Any] = json.loads(line)
    text = fields["value"].encode() if "value" in fields else base64.b64decode(fields["value.base64"])
    assert fields["file.name"] == source
    assert fields["file.version"]
    assert fields["file.length"] == len(text)
    return BadRow(fields["csv.row"], fields["file.offset"], text, fields["error.reason"])


class MixedLoad(CliLoad):
    """A load of such a file; `values` are the good rows'."""

    def __init__(self, children: Children, bootstrap: str, topic: str, folder: Path, rows: int) -> None:
        super().__init__(children, bootstrap, topic, folder, rows=1, options=QUARANTINE)
        self.values, self.bad = write_mixed_csv(self.path, rows)
        self.bad_file = folder / "bad rows.jsonl"

    @property
    def bad_topic(self) -> str:
        return f"{self.topic}.bad"

    def assert_whole(self) -> None:
        """Every row is there once, in order: the good ones in the topic, the bad ones in the other."""
        self.assert_exact()
        for isolation in ISOLATIONS:
            assert in_topic(self.bootstrap, self.bad_topic, self.source, isolation) == self.bad

    def assert_whole_with_file(self) -> None:
        """The same, with the bad ones in a file."""
        self.assert_exact()
        assert in_file(self.bad_file, self.source) == self.bad
