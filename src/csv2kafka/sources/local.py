"""A file on this machine, pinned by size and modification time. No read-ahead of its own: the kernel's is as fast."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Generator
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

from csv2kafka.errors import Csv2KafkaError, Denied, SourceChanged, SourceMissing, SourceUnavailable, UsageError
from csv2kafka.model import SourceIdentity
from csv2kafka.sources import Source, check_offset

CHUNK_BYTES = 1 << 20


class LocalSource(Source):
    """A regular file, by path or `file://` URI. It stays open, so that one renamed or removed is read to its end."""

    def __init__(self, path: str, *, chunk_bytes: int = CHUNK_BYTES) -> None:
        """Raises SourceMissing, SourceUnavailable, Denied, and UsageError for what is no regular file."""
        self._path = _path_of(path)
        self._chunk_bytes = chunk_bytes
        try:
            # Looked at first, because opening a FIFO would wait for its writer.
            _refuse_irregular(self._path, self._path.stat())
            self._file = self._path.open("rb", buffering=0)
        except (OSError, ValueError) as error:
            raise _explained(error, self._path) from error
        self.identity = _identity(self._path, os.fstat(self._file.fileno()))

    def read_from(self, offset_bytes: int) -> Generator[bytes, None, None]:
        check_offset(offset_bytes, self.identity)
        return self._chunks(offset_bytes)

    def read_at(self, offset_bytes: int, size_bytes: int) -> bytes:
        check_offset(offset_bytes, self.identity)
        end_bytes = min(offset_bytes + size_bytes, self.identity.size_bytes)
        pieces = []
        while offset_bytes < end_bytes:
            pieces.append(self._read(self._file.fileno(), offset_bytes, end_bytes))
            offset_bytes += len(pieces[-1])
        return b"".join(pieces)

    def close(self) -> None:
        self._file.close()

    def _chunks(self, offset_bytes: int) -> Generator[bytes, None, None]:
        # A descriptor of its own: after close() the number could already belong to another file.
        descriptor = os.dup(self._file.fileno())
        try:
            if hasattr(os, "posix_fadvise"):  # macOS has none
                os.posix_fadvise(descriptor, offset_bytes, 0, os.POSIX_FADV_SEQUENTIAL)
            while offset_bytes < self.identity.size_bytes:
                if self._file.closed:
                    raise ValueError(f"{self._path} was closed while it was read")
                end_bytes = min(offset_bytes + self._chunk_bytes, self.identity.size_bytes)
                chunk = self._read(descriptor, offset_bytes, end_bytes)
                offset_bytes += len(chunk)
                yield chunk
        finally:
            os.close(descriptor)

    def _read(self, descriptor: int, offset_bytes: int, end_bytes: int) -> bytes:
        try:
            chunk = os.pread(descriptor, end_bytes - offset_bytes, offset_bytes)
            # After the read, not before it: bytes written meanwhile must not be handed out.
            now = _identity(self._path, os.fstat(descriptor))
        except OSError as error:
            raise _explained(error, self._path) from error
        if now != self.identity or not chunk:
            raise SourceChanged(
                f"{self._path} was changed while it was read, near byte {offset_bytes}: it had "
                f"{self.identity.size_bytes} bytes and stamp {self.identity.etag}, now it has {now.size_bytes} bytes "
                f"and stamp {now.etag}",
                hint="load a finished copy that nobody writes to; rows already sent are safe: load the new file as a "
                "job of its own with --job-id NEW, or forget this one with `csv2kafka reset JOB` and begin again",
            )
        return chunk


def _path_of(uri: str) -> Path:
    if uri[:7].lower() == "file://":
        parts = urlsplit(uri)
        # A local path may hold "#" and "?", which urlsplit takes for a URI's own.
        if parts.netloc not in ("", "localhost"):
            raise UsageError(
                f"{uri} names a file of another machine, {parts.netloc}", hint="write file:///PATH with three slashes"
            )
        uri = url2pathname(uri[7 + len(parts.netloc) :])
    if uri in ("", "-"):
        raise UsageError(
            "standard input cannot be loaded: it has no positions to resume from",
            hint="write the data into a file first and name that file",
        )
    return Path(os.path.abspath(uri))


def _identity(path: Path, found: os.stat_result) -> SourceIdentity:
    return SourceIdentity(uri=str(path), size_bytes=found.st_size, etag=f"mtime-{found.st_mtime_ns}")


def _refuse_irregular(path: Path, found: os.stat_result) -> None:
    if stat.S_ISREG(found.st_mode):
        return
    if stat.S_ISDIR(found.st_mode):
        raise UsageError(f"{path} is a directory", hint="name one CSV file in it")
    raise UsageError(
        f"{path} is a pipe or a device: it has no positions to resume from",
        hint="write the data into a file first and name that file",
    )


def _explained(error: OSError | ValueError, path: Path) -> Csv2KafkaError:
    if isinstance(error, (FileNotFoundError, NotADirectoryError)):
        return SourceMissing(f"{path} does not exist", hint="check the path; a job goes on when the file is back")
    if isinstance(error, PermissionError):
        return Denied(f"{path} may not be read by this user", hint=f"allow it, for example `chmod a+r {path}`")
    if isinstance(error, ValueError) or error.errno in (errno.ENAMETOOLONG, errno.ELOOP):
        return UsageError(f"{path} is no usable path: {error}", hint="check the path")
    return SourceUnavailable(
        f"{path} could not be read: {error}", hint="check the disk or the mount, then run the same command again"
    )
