"""Bad rows in a file on this machine, each once: it is cut back to what the checkpoint knows before a job goes on.

Rows are written at the place that the checkpoint tells, so that whoever writes them twice writes the same bytes.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from urllib.parse import unquote, urlsplit

from csv2kafka import quarantine
from csv2kafka.errors import ConfigError, JobConflict, Retryable, machine_limit
from csv2kafka.model import Quarantine, QuarantinedRow, SourceIdentity


class QuarantineFile:
    """The file of one job, a line of JSON for each row. Raises ConfigError, JobConflict or Retryable."""

    def __init__(self, place: str, source: SourceIdentity) -> None:
        self.path = path_of(place)
        self._source = source

    def rewind(self, known: Quarantine, *, is_new: bool) -> None:
        """Cut off what came behind the checkpoint. A job that begins takes no file that somebody has filled."""
        try:
            with self.path.open("ab") as file:
                size_bytes = file.tell()
                if is_new and size_bytes:
                    raise JobConflict(
                        f"{self.path} is there already, and is not this job's",
                        hint="Move it away, or name another file: --bad-rows-to PATH.",
                    )
                if size_bytes < known.file_bytes:
                    raise JobConflict(
                        f"{self.path} has {size_bytes} bytes, but this job has written {known.file_bytes}: "
                        "it was changed, removed, or lies on another machine",
                        hint="Put back what csv2kafka wrote (mend rows in a copy, once the job is complete).",
                    )
                file.truncate(known.file_bytes)
        except OSError as error:
            raise self._explained(error) from error

    def write(self, rows: Sequence[QuarantinedRow], at_byte: int) -> int:
        """Write the rows at this place, durably; return the place behind them."""
        data = b"".join(quarantine.line_of(row, self._source) for row in rows)
        try:
            handle = os.open(self.path, os.O_WRONLY)
            try:
                left = memoryview(data)
                while left:
                    left = left[os.pwrite(handle, left, at_byte + len(data) - len(left)) :]
                os.fdatasync(handle)
            finally:
                os.close(handle)
        except OSError as error:
            raise self._explained(error) from error
        return at_byte + len(data)

    def _explained(self, error: OSError) -> Exception:
        limit = machine_limit(error)
        if limit is not None:
            return limit
        if isinstance(error, FileNotFoundError | PermissionError | IsADirectoryError | NotADirectoryError):
            return ConfigError(
                f"the file for bad rows, {self.path}, cannot be written: {error.strerror}",
                hint="Name a file in a folder that this user may write to: --bad-rows-to PATH.",
            )
        return Retryable(
            f"the file for bad rows, {self.path}, cannot be written now: {error.strerror}",
            hint="See that its disk has room and works, then run the same command again.",
        )


def path_of(place: str) -> Path:
    """Of a file:// URI."""
    return Path(unquote(urlsplit(place).path))


def lines(known: Quarantine) -> Iterator[bytes]:
    """The lines that a job has written. Raises ConfigError or JobConflict."""
    path = path_of(known.place)
    try:
        with path.open("rb") as file:
            left_bytes = known.file_bytes
            while left_bytes > 0 and (line := file.readline()):
                left_bytes -= len(line)
                yield line
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}", hint="The job's bad rows are in it.") from error
    if left_bytes:
        raise JobConflict(f"{path} is not what this job has written", hint="Put back what csv2kafka wrote.")
