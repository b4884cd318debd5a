"""The judgement on a finished load: every row of the file in the topic, once, in order, and nothing else.

Made by librdkafka, csv and json; of the loader's own code nothing may be used here.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from itertools import zip_longest
from pathlib import Path

from tests.support.oracle import Isolation, iter_messages

ISOLATIONS: tuple[Isolation, ...] = ("read_uncommitted", "read_committed")


class Violation(Exception):
    """Something that must never happen did; the message says what."""


def check_topic(path: Path, delimiter: str, bootstrap: str, topic: str, first_offset: int) -> None:
    """Compare the topic from an offset on, as both kinds of consumers see it, with the file. Raises Violation."""
    dumps = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode
    with path.open(encoding="utf-8-sig", newline="") as file:
        expected = (dumps(row).encode() for row in csv.DictReader(file, delimiter=delimiter))
        views = (_values(bootstrap, topic, isolation, first_offset) for isolation in ISOLATIONS)
        for row, (want, *found) in enumerate(zip_longest(expected, *views), 1):
            for isolation, have in zip(ISOLATIONS, found, strict=True):
                if want != have:
                    what = f"{_kind(row, want, have)} at row {row}, {isolation}"
                    raise Violation(f"{what}: {want!r:.400} expected, found {have!r:.400}")


def _values(bootstrap: str, topic: str, isolation: Isolation, first_offset: int) -> Iterator[bytes]:
    for messages in iter_messages(bootstrap, topic, isolation=isolation, start_offset=first_offset):
        for message in messages:
            yield message.value() or b""


def _kind(row: int, want: bytes | None, have: bytes | None) -> str:
    """What the difference is; the files' first column tells each row's number."""
    if have is None:
        return "rows missing at the end"
    try:
        found = int(json.loads(have)["row"])
    except (ValueError, KeyError, TypeError):
        return "a record that is no row of the file"
    if found != row:
        return f"a duplicate of row {found}" if found < row else f"a gap up to row {found}"
    return "a row too many" if want is None else "a wrong record"
