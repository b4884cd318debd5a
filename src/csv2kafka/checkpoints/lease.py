"""The lease half of a job's item: who holds the job, and whether that process can still be alive.

No store and no waiting may live here: only the record, who this process is, and a look at /proc.
"""

from __future__ import annotations

import os
import socket
import uuid
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cache
from pathlib import Path

from csv2kafka.checkpoints.item import Item, number, text
from csv2kafka.errors import Fenced, JobConflict, JobHeld

TTL_MS = 10_000

LEASE_FIELDS: dict[str, type] = {
    "lease_owner": str,
    "lease_epoch": int,
    "lease_rvn": str,
    "lease_ttl_ms": int,
    "lease_host": str,
    "lease_boot_id": str,
    "lease_pid_ns": str,
    "lease_pid": int,
    "lease_pid_start": int,
    "lease_since": str,
    "ckpt_seq": int,
}


@dataclass(frozen=True, slots=True)
class Process:
    """One process of one machine. A pid means something only on one boot and inside one pid namespace."""

    host: str
    boot_id: str
    pid_ns: str
    pid: int
    pid_start: int  # in clock ticks since the boot: tells a reused pid from the holder's


@dataclass(frozen=True, slots=True)
class Lease:
    """`owner` is None while nobody holds the job. `ckpt_seq` counts all writes, `rvn` is another at each of them."""

    owner: str | None = None
    epoch: int = 0
    rvn: str = ""
    ttl_ms: int = TTL_MS
    process: Process = Process("", "", "", 0, 0)
    since: str = ""
    ckpt_seq: int = 0

    def taken(self) -> Lease:
        """The lease after this one, held by this process."""
        return Lease(
            owner=str(uuid.uuid4()),
            epoch=self.epoch + 1,
            rvn=str(uuid.uuid4()),
            process=this_process(),
            since=utc_now(),
            ckpt_seq=self.ckpt_seq + 1,
        )

    def renewed(self) -> Lease:
        return replace(self, rvn=str(uuid.uuid4()), ckpt_seq=self.ckpt_seq + 1)

    def given_up(self) -> Lease:
        return Lease(epoch=self.epoch, rvn=str(uuid.uuid4()), ckpt_seq=self.ckpt_seq + 1)

    def owned_by(self, other: Lease) -> bool:
        return (self.owner, self.epoch) == (other.owner, other.epoch)

    def to_item(self) -> Item:
        item: Item = {"lease_epoch": self.epoch, "lease_rvn": self.rvn, "ckpt_seq": self.ckpt_seq}
        if self.owner is not None:
            item |= {
                "lease_owner": self.owner,
                "lease_ttl_ms": self.ttl_ms,
                "lease_host": self.process.host,
                "lease_boot_id": self.process.boot_id,
                "lease_pid_ns": self.process.pid_ns,
                "lease_pid": self.process.pid,
                "lease_pid_start": self.process.pid_start,
                "lease_since": self.since,
            }
        return item

    @classmethod
    def from_item(cls, item: Item) -> Lease:
        """The lease in an item, a free one when the item has none. Raises JobConflict as a checkpoint does."""
        ttl_ms = number(item, "lease_ttl_ms")
        return cls(
            owner=text(item, "lease_owner"),
            epoch=number(item, "lease_epoch") or 0,
            rvn=text(item, "lease_rvn") or "",
            ttl_ms=TTL_MS if ttl_ms is None else ttl_ms,
            process=Process(
                host=text(item, "lease_host") or "",
                boot_id=text(item, "lease_boot_id") or "",
                pid_ns=text(item, "lease_pid_ns") or "",
                pid=number(item, "lease_pid") or 0,
                pid_start=number(item, "lease_pid_start") or 0,
            ),
            since=text(item, "lease_since") or "",
            ckpt_seq=number(item, "ckpt_seq") or 0,
        )

    @property
    def holder(self) -> str:
        return f"process {self.process.pid} on {self.process.host}, since {self.since}"


def without_nonsense(item: Item) -> Item:
    """The item less the lease fields that cannot be read, so that even a damaged job can be forgotten."""
    kept = dict(item)
    for name, kind in LEASE_FIELDS.items():
        try:
            (number if kind is int else text)(item, name)
        except JobConflict:
            del kept[name]
    return kept


def without_lease(item: Item) -> Item:
    return {name: value for name, value in item.items() if name not in LEASE_FIELDS}


def job_held(job_id: str, lease: Lease) -> JobHeld:
    by = lease.holder if lease.owner is not None else "a process that has not said who it is"
    return JobHeld(
        f"job {job_id} is held by {by}",
        hint="let that process finish or stop it, then run the same command again: "
        f"a dead holder's lease is free after {TTL_MS // 1000} s",
    )


def fenced(job_id: str, now: Lease) -> Fenced:
    by = f"{now.holder} holds it" if now.owner is not None else "nobody holds it"
    return Fenced(
        f"job {job_id} was taken away from this process; now {by}",
        hint="nothing is lost: leave the other process to it, or run the same command again once it has ended",
    )


def this_process() -> Process:
    pid = os.getpid()
    boot_id, pid_ns = _machine()
    return Process(socket.gethostname(), boot_id, pid_ns, pid, _state_and_start(pid)[1])


def is_gone(process: Process) -> bool:
    """True only if the process has certainly ended; a process that cannot be seen from here counts as alive."""
    boot_id, pid_ns = _machine()
    # Containers of one machine share its boot id, and each has a pid 1: the namespace must be the same, too.
    seen_from_here = (process.host, process.boot_id, process.pid_ns) == (socket.gethostname(), boot_id, pid_ns)
    if not (seen_from_here and boot_id and pid_ns and process.pid and process.pid_start):
        return False
    try:
        os.kill(process.pid, 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        pass
    state, start = _state_and_start(process.pid)
    return start not in (0, process.pid_start) or state in ("Z", "X")


def utc_now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")


@cache
def _machine() -> tuple[str, str]:
    """Boot id and pid namespace, both empty where the system does not tell."""
    try:
        boot_id = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return boot_id, os.readlink("/proc/self/ns/pid")
    except OSError:
        return "", ""


def _state_and_start(pid: int) -> tuple[str, int]:
    """State letter and start time (clock ticks since the boot) of a process; ("", 0) when it cannot be seen."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return "", 0
    fields = stat.rpartition(")")[2].split()  # the name before it may hold anything, spaces and brackets too
    return fields[0], int(fields[19])
