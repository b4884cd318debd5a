"""A few records through Python's own csv module: headers, error messages, samples; never rows on their way."""

from __future__ import annotations

import csv
import io
import itertools
import threading

from csv2kafka.model import Dialect

_limit_lock = threading.Lock()


def fields(record: str, dialect: Dialect) -> tuple[str, ...]:
    """The fields of the first record in `record`, however long they are; none for an empty one."""
    first = rows(record, dialect, most=1)
    return first[0] if first else ()


def rows(text: str, dialect: Dialect, *, most: int | None = None) -> list[tuple[str, ...]]:
    """The first `most` records (None: all) of the text; blank lines are empty ones."""
    with _limit_lock:  # the csv module's limit is the process's
        limit = csv.field_size_limit(len(text) + 1)
        try:
            reader = csv.reader(
                io.StringIO(text, newline=""),
                delimiter=dialect.delimiter,
                quotechar=dialect.quote,
                escapechar=dialect.escape,
            )
            return list(map(tuple, itertools.islice(reader, most)))
        finally:
            csv.field_size_limit(limit)
