"""One record at a time through Python's own csv module: for the header and for error messages, never for rows."""

from __future__ import annotations

import csv
import io
import threading

from csv2kafka.model import Dialect

_limit_lock = threading.Lock()


def fields(record: str, dialect: Dialect) -> tuple[str, ...]:
    """The fields of the first record in `record`, however long they are; none for an empty one."""
    with _limit_lock:  # the csv module's limit is the process's
        limit = csv.field_size_limit(len(record) + 1)
        try:
            reader = csv.reader(
                io.StringIO(record, newline=""),
                delimiter=dialect.delimiter,
                quotechar=dialect.quote,
                escapechar=dialect.escape,
            )
            return tuple(next(reader, ()))
        finally:
            csv.field_size_limit(limit)
