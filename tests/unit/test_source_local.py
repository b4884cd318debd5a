"""What only a local file can suffer: it grows, shrinks, is renamed, is no file at all."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from csv2kafka.errors import Denied, SourceChanged, SourceMissing, SourceUnavailable, UsageError
from csv2kafka.sources import open_source
from csv2kafka.sources.local import LocalSource

BODY = bytes(range(65, 91)) * 4


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "data.csv"
    path.write_bytes(BODY)
    return path


def test_the_identity_is_size_and_modification_time(path: Path) -> None:
    os.utime(path, ns=(1, 1_700_000_000_123_456_789))

    with open_source(str(path)) as source:
        assert source.identity.size_bytes == len(BODY)
        assert source.identity.etag == "mtime-1700000000123456789"
        assert source.identity.version_id is None
        assert source.identity.uri == str(path)


def append(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b"more")


def truncate(path: Path) -> None:
    os.truncate(path, 60)


def touch(path: Path) -> None:
    os.utime(path, ns=(5, 5))


@pytest.mark.parametrize("change", [append, truncate, touch])
def test_a_change_during_a_read_is_seen_at_the_next_chunk(path: Path, change: Callable[[Path], None]) -> None:
    with LocalSource(str(path), chunk_bytes=50) as source:
        chunks = source.read_from(0)
        assert next(chunks) == BODY[:50]

        change(path)

        with pytest.raises(SourceChanged) as refusal:
            next(chunks)
        with pytest.raises(SourceChanged):
            source.read_at(0, 1)
    assert str(path) in refusal.value.message
    assert f"{len(BODY)} bytes" in refusal.value.message
    assert f"{path.stat().st_size} bytes" in refusal.value.message
    assert "csv2kafka reset JOB" in refusal.value.hint


@pytest.mark.parametrize("fate", [lambda path: path.rename(path.with_name("old")), Path.unlink])
def test_a_file_renamed_or_removed_is_read_to_its_end(path: Path, fate: Callable[[Path], object]) -> None:
    with LocalSource(str(path), chunk_bytes=50) as source:
        chunks = source.read_from(0)
        first = next(chunks)

        fate(path)
        path.write_bytes(b"another file of that name")

        assert first + b"".join(chunks) == BODY


def test_file_uris_and_relative_paths(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    odd = path.rename(path.with_name("odd name #1?.csv"))
    monkeypatch.chdir(path.parent)

    for uri in (
        odd.as_uri(),
        f"file://{odd.parent}/odd%20name%20%231%3F.csv",
        f"file://localhost{odd.parent}/odd name #1?.csv",
        f"FILE://{odd}",
        odd.name,
        f"./{odd.name}",
        str(odd),
    ):
        with open_source(uri) as source:
            assert source.identity.uri == str(odd)


@pytest.mark.parametrize(
    "uri",
    ["", "-", "file://", "file://elsewhere/data.csv", "http://host/data.csv", "gs://bucket/key", "a\0b", "x" * 5000],
)
def test_what_cannot_be_a_source(uri: str) -> None:
    with pytest.raises(UsageError) as refusal:
        open_source(uri)

    assert refusal.value.hint
    assert refusal.value.exit_code == 2


def test_directories_and_pipes_are_refused_without_waiting(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)

    for path, word in ((tmp_path, "directory"), (fifo, "pipe"), (Path("/dev/null"), "device")):
        with pytest.raises(UsageError, match=word) as refusal:
            open_source(str(path))
        assert refusal.value.hint


def test_a_path_through_a_file_is_missing(path: Path) -> None:
    with pytest.raises(SourceMissing):
        open_source(str(path / "deeper"))


@pytest.mark.parametrize(
    ("code", "expected"), [(errno.EACCES, Denied), (errno.EIO, SourceUnavailable), (errno.ESTALE, SourceUnavailable)]
)
def test_the_systems_refusals(
    path: Path, monkeypatch: pytest.MonkeyPatch, code: int, expected: type[Exception]
) -> None:
    def fail(*_: object, **__: object) -> bytes:
        raise OSError(code, os.strerror(code))

    with LocalSource(str(path)) as source:
        monkeypatch.setattr(os, "pread", fail)
        with pytest.raises(expected) as refusal:
            list(source.read_from(0))
    assert str(path) in str(refusal.value)

    monkeypatch.setattr(Path, "open", fail)
    with pytest.raises(expected):
        LocalSource(str(path))
