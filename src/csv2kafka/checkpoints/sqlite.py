"""Checkpoints in a SQLite file on this machine; the lease is a file lock, which the kernel frees with the process.

Only what SQLite and file locks need may live here. The lease's fields in the row say who holds the lock; they
also refuse a writer whose lock file was removed from under it.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import platformdirs

from csv2kafka.checkpoints.item import CHECKPOINT_FIELDS, Item, from_item, to_item
from csv2kafka.checkpoints.lease import (
    LEASE_FIELDS,
    Lease,
    fenced,
    is_gone,
    job_held,
    utc_now,
    without_lease,
    without_nonsense,
)
from csv2kafka.errors import (
    CheckpointMissing,
    CheckpointUnavailable,
    ConfigError,
    Csv2KafkaError,
    Retryable,
    machine_limit,
)
from csv2kafka.model import Checkpoint, JobStatus

if TYPE_CHECKING:
    from types import TracebackType

_SCHEMA_VERSION = 5
_COLUMNS = {**CHECKPOINT_FIELDS, **LEASE_FIELDS}
_TYPES = {str: "TEXT", int: "INTEGER"}
_CREATE_DOCUMENTS = "CREATE TABLE IF NOT EXISTS documents (name TEXT PRIMARY KEY, body BLOB)"
_BUSY_TIMEOUT_S = 10.0  # a write takes milliseconds: whoever waits longer waits for something stuck

_WRITE, _READ = "BEGIN IMMEDIATE", "BEGIN"  # who reads waits for no writer, not even for one that stands still

_NAME_WITHIN_S = 2.0
_LOOK_AGAIN_S = 0.02
_FILES_OF_A_TRANSACTION = 4  # database, log, its shared memory, our lock

_PASSING = {errno.ENOSPC, errno.EDQUOT, errno.EIO}
_AGAIN = {sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}
_NO_MEMORY = {sqlite3.SQLITE_NOMEM, sqlite3.SQLITE_IOERR_NOMEM, sqlite3.SQLITE_IOERR_SHMMAP}
_FORBIDDEN = {sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM}


def default_path() -> Path:
    """checkpoints.db in the user's state folder, which is made (mode 0700) when it is not there."""
    folder = platformdirs.user_state_path("csv2kafka", appauthor=False)
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise _explained(error, folder) from error
    return folder / "checkpoints.db"


class SqliteStore:
    """The CheckpointStore in one file. Each call opens it anew: a file removed meanwhile is noticed, not written to."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock: _FileLock | None = None
        self._lease = Lease()
        self._job_id = ""

    def acquire(self, job_id: str) -> Checkpoint | None:
        item = self._take(job_id, nonsense_allowed=False)
        return from_item(item)

    def save(self, checkpoint: Checkpoint) -> None:
        if checkpoint.job_id != self._job_id:
            raise AssertionError("a checkpoint is saved under its own job's lease")
        with self._transaction() as db:
            lease = self._own_lease(db).renewed()
            _write(db, to_item(checkpoint, utc_now()) | lease.to_item())

    def renew(self) -> None:
        # The file lock needs no renewing: only see that the row is still ours.
        with self._transaction() as db:
            self._own_lease(db)

    def release(self) -> None:
        lock, self._lock = self._lock, None
        if lock is None:
            return
        with lock, self._transaction() as db:
            item = without_nonsense(_read(db, self._job_id))
            lease = Lease.from_item(item)
            if lease.owned_by(self._lease):
                _write(db, without_lease(item) | lease.given_up().to_item())

    def load(self, job_id: str) -> Checkpoint | None:
        with self._transaction(_READ) as db:
            return from_item(_read(db, job_id))

    def look(self, job_id: str | None = None) -> list[Item]:
        with self._transaction(_READ) as db:
            names = [job_id] if job_id is not None else _job_ids(db)
            return [item for name in names if (item := _read(db, name))]

    def forget(self, job_id: str) -> None:
        self._take(job_id, nonsense_allowed=True)
        try:
            self.save(Checkpoint(job_id, status=JobStatus.RESET))
        finally:
            self.release()

    def keep(self, name: str, body: bytes) -> bool:
        with self._transaction() as db:
            return db.execute("INSERT OR IGNORE INTO documents VALUES (?, ?)", (name, body)).rowcount == 1

    def kept(self, name: str) -> bytes | None:
        with self._transaction(_READ) as db:
            row = db.execute("SELECT body FROM documents WHERE name = ?", (name,)).fetchone()
            return None if row is None else bytes(row[0])

    def discard(self, name: str) -> None:
        with self._transaction() as db:
            db.execute("DELETE FROM documents WHERE name = ?", (name,))

    def _take(self, job_id: str, *, nonsense_allowed: bool) -> Item:
        """Lock the job and say in its row who did. The item as it was found."""
        if self._lock is not None:
            raise AssertionError("a store holds one lease at a time")
        lock = _FileLock.try_take(self._lock_path(job_id))
        if lock is None:
            raise job_held(job_id, self._holder(job_id))
        try:
            with self._transaction() as db:
                item = _read(db, job_id)
                if nonsense_allowed:
                    item = without_nonsense(item)
                else:
                    from_item(item)
                lease = Lease.from_item(item).taken()
                _write(db, item | {"job_id": job_id} | lease.to_item())
        except BaseException:
            lock.free()
            raise
        self._lock, self._lease, self._job_id = lock, lease, job_id
        return item

    def _holder(self, job_id: str) -> Lease:
        """The lease of whoever has the lock and writes its name a moment after taking that."""
        give_up_s = time.monotonic() + _NAME_WITHIN_S
        while True:
            with self._transaction(_READ) as db:
                lease = Lease.from_item(without_nonsense(_read(db, job_id)))
            is_named = lease.owner is not None and not is_gone(lease.process)
            if is_named or time.monotonic() > give_up_s:
                return lease
            time.sleep(_LOOK_AGAIN_S)

    def _own_lease(self, db: sqlite3.Connection) -> Lease:
        """The lease in the row, which must still be ours."""
        if self._lock is None:
            raise AssertionError("no lease is held")
        lease = Lease.from_item(without_nonsense(_read(db, self._job_id)))
        if not lease.owned_by(self._lease):
            raise fenced(self._job_id, lease)
        return lease

    def _lock_path(self, job_id: str) -> Path:
        slug = hashlib.sha256(job_id.encode()).hexdigest()[:16]  # a job id may hold what a file name may not
        return self.path.with_name(f"{self.path.name}.{slug}.lock")

    @contextmanager
    def _transaction(self, begin: str = _WRITE) -> Iterator[sqlite3.Connection]:
        try:
            if not self.path.parent.is_dir():
                raise _folder_missing(self.path)
            with closing(sqlite3.connect(self.path, timeout=_BUSY_TIMEOUT_S, isolation_level=None)) as db:
                self._prepare(db)
                with db:
                    db.execute(begin)
                    yield db
        except (OSError, sqlite3.Error) as error:
            raise _explained(error, self.path) from error

    def _prepare(self, db: sqlite3.Connection) -> None:
        db.execute("PRAGMA synchronous=FULL")  # the default of some builds loses the last commits with the power
        version = _schema_version(db)
        if version < _SCHEMA_VERSION:
            # Under a lock, because SQLite does not wait for its turn when two processes switch to WAL at once.
            with _FileLock.take(self.path.with_name(f"{self.path.name}.lock")):
                version = _schema_version(db) or _create(db)
                if 0 < version < _SCHEMA_VERSION:
                    version = _upgrade(db)
        if version != _SCHEMA_VERSION:
            raise ConfigError(
                f"{self.path} is a database of another program, or of a newer csv2kafka (its version is {version})",
                hint="use the program that wrote it, or name another file: --checkpoint sqlite:///PATH",
            )


class _FileLock:
    """An exclusive lock on a file, held until freed or until the process ends. The file itself stays for ever:
    removing it would let a third process lock a new one beside it."""

    def __init__(self, path: Path, operation: int) -> None:
        self._file = path.open("ab")
        try:
            fcntl.flock(self._file, operation)
        except BaseException:
            self._file.close()
            raise

    @classmethod
    def take(cls, path: Path) -> _FileLock:
        return cls(path, fcntl.LOCK_EX)

    @classmethod
    def try_take(cls, path: Path) -> _FileLock | None:
        """The lock, None when somebody else has it."""
        try:
            return cls(path, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return None
        except OSError as error:
            raise _explained(error, path) from error

    def free(self) -> None:
        self._file.close()

    def __enter__(self) -> None:
        pass

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.free()


def _schema_version(db: sqlite3.Connection) -> int:
    return int(db.execute("PRAGMA user_version").fetchone()[0])


def _create(db: sqlite3.Connection) -> int:
    if db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
        return 0  # another program's database
    db.execute("PRAGMA journal_mode=WAL")
    columns = ", ".join(f"{name} {_TYPES[kind]}" for name, kind in _COLUMNS.items())
    with db:
        db.execute("BEGIN IMMEDIATE")
        db.execute(f"CREATE TABLE checkpoints ({columns}, PRIMARY KEY (job_id))")
        db.execute(_CREATE_DOCUMENTS)
        db.execute(f"PRAGMA user_version={_SCHEMA_VERSION}")
    return _SCHEMA_VERSION


def _upgrade(db: sqlite3.Connection) -> int:
    """From an earlier version, which had some columns less, or no documents."""
    with db:
        db.execute("BEGIN IMMEDIATE")
        there = {name for _, name, *_ in db.execute("PRAGMA table_info(checkpoints)")}
        for name, kind in _COLUMNS.items():
            if name not in there:
                db.execute(f"ALTER TABLE checkpoints ADD COLUMN {name} {_TYPES[kind]}")
        db.execute(_CREATE_DOCUMENTS)
        db.execute(f"PRAGMA user_version={_SCHEMA_VERSION}")
    return _SCHEMA_VERSION


def _job_ids(db: sqlite3.Connection) -> list[str]:
    return [job_id for (job_id,) in db.execute("SELECT job_id FROM checkpoints ORDER BY job_id")]


def _read(db: sqlite3.Connection, job_id: str) -> Item:
    """The job's item, empty for a job never seen."""
    names = ", ".join(_COLUMNS)
    row = db.execute(f"SELECT {names} FROM checkpoints WHERE job_id = ?", (job_id,)).fetchone()  # noqa: S608 - our names
    if row is None:
        return {}
    return {name: value for name, value in zip(_COLUMNS, row, strict=True) if value is not None}


def _write(db: sqlite3.Connection, item: Item) -> None:
    names, marks = ", ".join(_COLUMNS), ", ".join("?" * len(_COLUMNS))
    values = [item.get(name) for name in _COLUMNS]
    db.execute(f"INSERT OR REPLACE INTO checkpoints ({names}) VALUES ({marks})", values)  # noqa: S608 - our names


def _folder_missing(path: Path) -> CheckpointMissing:
    return CheckpointMissing(
        f"the folder for the checkpoint file {path} is not there", hint=f"make it: mkdir -p {path.parent}"
    )


def _explained(error: OSError | sqlite3.Error, path: Path) -> Csv2KafkaError:
    """What went wrong with the file, in our words: passing, missing, forbidden, or not a database of ours."""
    limit = _limit_behind(error)
    if limit is not None:
        return CheckpointUnavailable(f"the checkpoint file {path} cannot be opened: {limit.message}", hint=limit.hint)
    if isinstance(error, OSError):
        if isinstance(error, FileNotFoundError):
            return _folder_missing(path)
        passing, forbidden = error.errno in _PASSING, True
    else:
        code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF  # the rest tells where, not what
        passing, forbidden = code in _AGAIN, code in _FORBIDDEN
    if passing:
        return CheckpointUnavailable(
            f"the checkpoint file {path} cannot be written now: {error}",
            hint="see that its disk has room and works, then run the same command again; "
            "the last checkpoint saved is intact",
        )
    if forbidden:
        return ConfigError(
            f"the checkpoint file {path} cannot be used: {error}",
            hint=f"let this user write to {path.parent}, or name another file: --checkpoint sqlite:///PATH",
        )
    return ConfigError(
        f"{path} is not a sound checkpoint file: {error}",
        hint="put a sound copy in its place, or move it away: the next run says what a job needs without it",
    )


def _limit_behind(error: OSError | sqlite3.Error) -> Retryable | None:
    """The machine's limit that the error comes of; SQLite does not say so, its next files would be refused, too."""
    code = getattr(error, "sqlite_errorcode", None)
    if code in _NO_MEMORY:
        return machine_limit(MemoryError())
    if code != sqlite3.SQLITE_CANTOPEN:
        return machine_limit(error)
    try:
        with ExitStack() as opened:
            for _ in range(_FILES_OF_A_TRANSACTION):
                opened.enter_context(open(os.devnull, "rb"))
    except OSError as refused:
        return machine_limit(refused)
    return None
