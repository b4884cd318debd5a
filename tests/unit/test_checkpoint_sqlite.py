"""What only the SQLite store can do or suffer: its lock dies with the process; disks fill, files rot."""

from __future__ import annotations

import os
import resource
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, closing, contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import pytest

from csv2kafka.checkpoints import open_store
from csv2kafka.checkpoints.sqlite import SqliteStore, default_path
from csv2kafka.errors import CheckpointMissing, CheckpointUnavailable, ConfigError, Fenced, JobHeld
from csv2kafka.model import Checkpoint, Restart
from tests.support.checkpoints import sqlite_items
from tests.support.processes import Children

HOLD = """
import sys
from pathlib import Path
from csv2kafka.checkpoints.sqlite import SqliteStore
from csv2kafka.model import Checkpoint

store = SqliteStore(Path(sys.argv[1]))
store.acquire("job")
store.save(Checkpoint("job", 5, 5))
print("held", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "checkpoints.db"


def saved(path: Path, row: int) -> SqliteStore:
    """A store that holds the job and saved a checkpoint at a row."""
    store = SqliteStore(path)
    store.acquire("job")
    store.save(Checkpoint("job", row, row))
    return store


def test_a_killed_holders_lease_is_free_at_once(path: Path, children: Children) -> None:
    holder = children.start([sys.executable, "-c", HOLD, str(path)], stdin=subprocess.PIPE)
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    with pytest.raises(JobHeld, match=f"process {sqlite_items(path)['job']['lease_pid']} on "):
        SqliteStore(path).acquire("job")

    holder.kill()
    holder.wait()

    checkpoint = SqliteStore(path).acquire("job")
    assert checkpoint is not None
    assert checkpoint.last_line == 5


def test_a_holder_about_to_write_its_name_is_named(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between its lock and its row there is a moment, in which a second start must not be told of nobody."""
    holder = saved(path, 5)
    row = sqlite_items(path)["job"]
    with closing(sqlite3.connect(path)) as db, db:
        db.execute("UPDATE checkpoints SET lease_owner = NULL, lease_pid = NULL")

    def write_name(_: float) -> None:
        with closing(sqlite3.connect(path)) as db, db:
            db.execute("UPDATE checkpoints SET lease_owner = ?, lease_pid = ?", (row["lease_owner"], row["lease_pid"]))

    monkeypatch.setattr(time, "sleep", write_name)
    with pytest.raises(JobHeld, match=f"held by process {os.getpid()} on "):
        SqliteStore(path).acquire("job")
    holder.release()


def test_many_may_begin_at_once(path: Path) -> None:
    """Both making the file and its first use: none fails because another is a moment ahead."""

    def begin(number: int) -> None:
        store = SqliteStore(path)
        store.acquire(f"job {number}")
        store.save(Checkpoint(f"job {number}", number, number))
        store.release()

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(begin, range(8)))

    assert {item["last_line"] for item in sqlite_items(path).values()} == set(range(8))


def test_it_is_written_through_to_the_disk(path: Path) -> None:
    store = SqliteStore(path)
    store.acquire("job")
    with closing(sqlite3.connect(path)) as db:
        assert db.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    with store._transaction() as db:
        assert db.execute("PRAGMA synchronous").fetchone() == (2,)


@contextmanager
def no_file_may_grow(folder: Path) -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@contextmanager
def disk_full(folder: Path) -> Iterator[None]:
    filler = folder / "filler"
    with filler.open("wb", buffering=0) as file, suppress(OSError):
        while file.write(bytes(4096)):
            pass
    try:
        yield
    finally:
        filler.unlink()


Full = tuple[Path, Callable[[Path], AbstractContextManager[None]]]


@pytest.fixture
def full(tmp_path: Path) -> Iterator[Full]:
    """A folder, and a way to leave no room in it: a tiny disk of its own where we may mount one."""
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(tmp_path)], check=False, capture_output=True
    )
    if mounted.returncode != 0:
        yield tmp_path, no_file_may_grow
        return
    try:
        yield tmp_path, disk_full
    finally:
        subprocess.run(["umount", "--lazy", str(tmp_path)], check=True)


def test_a_full_disk_leaves_the_last_checkpoint_and_a_hint(full: Full) -> None:
    folder, no_room = full
    path = folder / "checkpoints.db"
    store = saved(path, 5)

    with no_room(folder), pytest.raises(CheckpointUnavailable) as refused:
        store.save(Checkpoint("job", 6, 6, record_shape="x" * 300_000))  # more than any file has left

    assert str(path) in refused.value.message
    assert "room" in refused.value.hint
    kept = store.load("job")
    assert kept is not None
    assert kept.last_line == 5
    store.save(Checkpoint("job", 6, 6))  # there is room again: go on as if nothing had been


def test_a_full_disk_at_the_first_start(full: Full) -> None:
    folder, no_room = full
    with no_room(folder), pytest.raises(CheckpointUnavailable):
        saved(folder / "checkpoints.db", 5)

    saved(folder / "checkpoints.db", 5).release()


@pytest.mark.parametrize(
    "content",
    [b"job_id,last_line\n" * 1_000, b"SQLite format 3\0" + bytes(8_000)],
    ids=["not a database", "a broken one"],
)
def test_a_file_that_is_no_database(path: Path, content: bytes) -> None:
    path.write_bytes(content)

    for call in (SqliteStore(path).acquire, SqliteStore(path).load, SqliteStore(path).forget):
        with pytest.raises(ConfigError) as refused:
            call("job")
        assert str(path) in refused.value.message
        assert "move it away" in refused.value.hint
    assert path.read_bytes() == content


def test_a_file_with_broken_pages(path: Path) -> None:
    saved(path, 5).release()
    content = bytearray(path.read_bytes())
    content[4096:] = b"\xff" * (len(content) - 4096)
    path.write_bytes(content)

    with pytest.raises(ConfigError, match="is not a sound checkpoint file"):
        SqliteStore(path).acquire("job")


def test_another_programs_database_is_left_alone(path: Path) -> None:
    with closing(sqlite3.connect(path)) as db:
        db.execute("CREATE TABLE checkpoints (id INTEGER)")
    content = path.read_bytes()

    with pytest.raises(ConfigError, match="another program"):
        SqliteStore(path).acquire("job")

    assert path.read_bytes() == content


def test_a_newer_programs_file_is_left_alone(path: Path) -> None:
    saved(path, 5).release()
    with closing(sqlite3.connect(path)) as db:
        db.execute("PRAGMA user_version = 9")

    with pytest.raises(ConfigError, match="its version is 9"):
        SqliteStore(path).acquire("job")


def test_a_file_from_before_there_were_checksums_is_taken_over(path: Path) -> None:
    saved(path, 5).release()
    with closing(sqlite3.connect(path)) as db:
        db.execute("ALTER TABLE checkpoints DROP COLUMN checksum")
        db.execute("PRAGMA user_version = 1")

    store = SqliteStore(path)
    found = store.acquire("job")
    assert found is not None
    assert found.last_line == 5
    store.save(found)
    store.release()
    assert SqliteStore(path).load("job") == store.load("job")


def test_a_file_from_before_there_were_places_to_begin_is_taken_over(path: Path) -> None:
    saved(path, 5).release()
    with closing(sqlite3.connect(path)) as db:
        for name in ("restart_text_byte", "restart_object_byte"):
            db.execute(f"ALTER TABLE checkpoints DROP COLUMN {name}")
        db.execute("PRAGMA user_version = 2")

    store = SqliteStore(path)
    found = store.acquire("job")
    assert found is not None
    assert (found.last_line, found.restart) == (5, None)
    with_place = replace(found, restart=Restart(7, 3))
    store.save(with_place)
    store.release()
    kept = SqliteStore(path).load("job")
    assert kept is not None
    assert kept.restart == Restart(7, 3)


def test_a_file_from_before_there_were_documents_is_taken_over(path: Path) -> None:
    saved(path, 5).release()
    with closing(sqlite3.connect(path)) as db:
        db.execute("DROP TABLE documents")
        db.execute("PRAGMA user_version = 4")

    store = SqliteStore(path)
    assert store.kept("nightly") is None
    assert store.keep("nightly", b"list")
    assert store.kept("nightly") == b"list"
    found = store.load("job")
    assert found is not None
    assert found.last_line == 5
    with closing(sqlite3.connect(path)) as db:
        assert db.execute("PRAGMA user_version").fetchone() == (5,)


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "gone" / "checkpoints.db")

    for call in (store.acquire, store.load, store.forget):
        with pytest.raises(CheckpointMissing) as refused:
            call("job")
        assert f"mkdir -p {tmp_path / 'gone'}" in refused.value.hint


@contextmanager
def nobody() -> Iterator[None]:
    """Without root's power to write anywhere."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


def test_a_folder_that_may_not_be_written_to() -> None:
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o555)
        with nobody(), pytest.raises(ConfigError) as refused:
            SqliteStore(Path(folder) / "checkpoints.db").acquire("job")

    assert f"let this user write to {folder}" in refused.value.hint


def test_a_file_that_may_not_be_written_to() -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "checkpoints.db"
        saved(path, 5).release()
        path.chmod(0o444)
        Path(folder).chmod(0o777)
        with nobody(), pytest.raises(ConfigError) as refused:
            SqliteStore(path).forget("job 2")

    assert f"let this user write to {folder}" in refused.value.hint


def test_a_row_removed_from_under_the_lease_is_noticed(path: Path) -> None:
    store = saved(path, 5)
    path.unlink()

    with pytest.raises(Fenced, match="nobody holds it"):
        store.save(Checkpoint("job", 6, 6))


def test_the_default_file_lies_in_a_private_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "new" / "state"))

    store = open_store(None, "job")

    assert isinstance(store, SqliteStore)
    assert store.path == default_path() == tmp_path / "new" / "state" / "csv2kafka" / "checkpoints.db"
    assert store.path.parent.stat().st_mode & 0o777 == 0o700
    assert store.acquire("job") is None


def test_a_default_folder_that_cannot_be_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "file"))

    with pytest.raises(ConfigError) as refused:
        open_store(None, "job")

    assert refused.value.hint


@pytest.mark.parametrize(("name", "value"), [("AWS_BATCH_JOB_ID", "1"), ("AWS_EXECUTION_ENV", "AWS_ECS_FARGATE")])
def test_where_files_die_with_the_task_a_table_is_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(name, value)

    with pytest.raises(ConfigError) as refused:
        open_store(None, "job")

    assert refused.value.exit_code == 78
    assert "dynamodb://" in refused.value.hint
    assert isinstance(open_store(f"sqlite:///{tmp_path}/on-a-volume.db", "job"), SqliteStore)


def test_urls_are_written_as_sqlalchemy_does(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for url, path in {"sqlite:////srv/state/c.db": "/srv/state/c.db", "sqlite:///state/c.db": "state/c.db"}.items():
        store = open_store(url, "job")
        assert isinstance(store, SqliteStore)
        assert store.path == Path(path)


@pytest.mark.parametrize(
    "url",
    ["", "c.db", "/srv/c.db", "sqlite:", "sqlite://", "sqlite:///", "sqlite://host/c.db", "sqlite:///:memory:",
     "dynamodb:", "dynamodb://", "dynamodb://a", "dynamodb://a/b/c", "redis://host"],
)  # fmt: skip
def test_other_urls_are_refused_with_the_forms_that_are_not(url: str) -> None:
    with pytest.raises(ConfigError) as refused:
        open_store(url, "job")

    assert "sqlite:///PATH" in refused.value.hint
    assert "dynamodb://TABLE" in refused.value.hint
