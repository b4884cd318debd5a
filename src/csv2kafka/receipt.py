"""What a run did: the Receipt, as a small table for people and as JSON for machines. Pure: no printing, no files."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from csv2kafka import human
from csv2kafka.model import FENCED, Delivery, Part, SourceIdentity


@dataclass(frozen=True, slots=True)
class LaneReceipt:
    """A partition's part of a job; offsets from `first_offset` to before `next_offset`."""

    topic: str
    partition: int
    first_offset: int
    next_offset: int


@dataclass(frozen=True, slots=True)
class QuarantineReceipt:
    """The bad rows of a job: how many, why, and where they are. Offsets are None for a file."""

    place: str
    rows: int
    reasons: dict[str, int]
    first_offset: int | None = None
    next_offset: int | None = None


@dataclass(frozen=True, slots=True)
class Receipt:
    """What a run did, for the user and for machines (`--json`)."""

    job_id: str
    source: SourceIdentity
    topic: str
    partitions: tuple[LaneReceipt, ...]
    status: str  # complete | already complete | stopped
    rows: int  # of the whole job
    rows_this_run: int
    bytes: int
    delivery: Delivery
    takeovers: int
    foreign_records: int  # of other programs, seen between this run's rows
    duration_s: float
    rows_per_s: float
    resumed_at_row: int  # of the file
    startup_s: float | None  # from holding the lease to the first acknowledged batch of this run
    crc32c: str | None = None  # of these `bytes` of text, in hexadecimal digits: S3 has the same of a whole object
    quarantine: QuarantineReceipt | None = None
    part: Part | None = None  # of the source, which the job loads; None: all of it

    @property
    def partition(self) -> int | None:
        """Of the only partition that rows went to; None, like the two below, where there are several or none yet."""
        return self.partitions[0].partition if len(self.partitions) == 1 else None

    @property
    def first_offset(self) -> int | None:
        return self.partitions[0].first_offset if len(self.partitions) == 1 else None

    @property
    def next_offset(self) -> int | None:
        return self.partitions[0].next_offset if len(self.partitions) == 1 else None


def as_dict(receipt: Receipt) -> dict[str, Any]:
    """The receipt's fields, source and partitions nested, and `bytes_per_s`; None becomes null.

    `partition`, `first_offset` and `next_offset` are those of the only partition, null where there are several.
    """
    one = {name: getattr(receipt, name) for name in ("partition", "first_offset", "next_offset")}
    return {**asdict(receipt), **one, "bytes_per_s": bytes_per_s(receipt)}


def as_text(receipt: Receipt) -> str:
    """A headline and aligned lines, without a newline at the end."""
    source = receipt.source
    version = f", version {source.version_id}" if source.version_id else ""
    lines = {
        "job": receipt.job_id,
        "source": source.uri,
        **({"part": f"{human.rows_of(receipt.part, receipt.rows)} of the file"} if receipt.part else {}),
        "identity": f"etag {source.etag}{version}",
        "topic": _topic(receipt),
        "offsets": _offsets(receipt),
        "rows": _rows(receipt),
        "bytes": _bytes(receipt),
    }
    if receipt.rows_this_run:
        lines["duration"] = human.duration(receipt.duration_s) + _startup(receipt)
        lines["speed"] = f"{receipt.rows_per_s:,.0f} rows/s, {human.size(bytes_per_s(receipt))}/s"
    if receipt.delivery != FENCED:
        lines["delivery"] = receipt.delivery
    if receipt.quarantine is not None:
        lines["bad rows"] = _bad_rows(receipt.quarantine)
    if receipt.foreign_records:
        lines["others"] = f"{human.plural(receipt.foreign_records, 'record')} of other programs between the rows"
    if receipt.takeovers > 1:
        lines["take-overs"] = f"{receipt.takeovers} (of the partition, in this run)"
    return "\n".join([_headline(receipt), "", *(f"  {name:<10}  {value}" for name, value in lines.items())])


def bytes_per_s(receipt: Receipt) -> float:
    """Bytes of the source a second: the row rate times the mean row, which holds for a resumed run too."""
    return receipt.rows_per_s * receipt.bytes / receipt.rows if receipt.rows else 0.0


def _headline(receipt: Receipt) -> str:
    rows = human.plural(receipt.rows, "row")
    if receipt.status == "stopped":
        return f"stopped after {rows}, which are safe: run the same command again to go on"
    return f"{receipt.status}: {rows} of {receipt.source.uri} in {receipt.topic}"


def _topic(receipt: Receipt) -> str:
    if len(receipt.partitions) > 1:
        return f"{receipt.topic}, {len(receipt.partitions)} partitions"
    return ", ".join((receipt.topic, *(f"partition {lane.partition}" for lane in receipt.partitions)))


def _offsets(receipt: Receipt) -> str:
    written = [lane for lane in receipt.partitions if lane.next_offset > lane.first_offset]
    if not written:
        return "none"
    others = sum(lane.next_offset - lane.first_offset for lane in written) - _records(receipt)
    is_told = others > 0 and receipt.status != "stopped" and not receipt.foreign_records
    also = f" ({human.plural(others, 'marker')} among them)" if is_told else ""
    if len(receipt.partitions) == 1:
        return f"{written[0].first_offset:,} to {written[0].next_offset - 1:,}{also}"
    each = ", ".join(f"{lane.partition}: {lane.first_offset:,} to {lane.next_offset - 1:,}" for lane in written)
    return f"{each}{also}"


def _records(receipt: Receipt) -> int:
    return receipt.rows - (receipt.quarantine.rows if receipt.quarantine else 0)


def _bad_rows(quarantine: QuarantineReceipt) -> str:
    if not quarantine.rows:
        return f"none (they would be in {quarantine.place})"
    offsets = ""
    if quarantine.first_offset is not None and quarantine.next_offset is not None:
        offsets = f", offsets {quarantine.first_offset:,} to {quarantine.next_offset - 1:,}"
    ranked = sorted(quarantine.reasons.items(), key=lambda item: -item[1])
    reasons = [f"\n{'':14}{rows:,}: {reason}" for reason, rows in ranked]
    return f"{quarantine.rows:,} in {quarantine.place}{offsets}{''.join(reasons)}"


def _rows(receipt: Receipt) -> str:
    if receipt.rows_this_run == receipt.rows:
        return f"{receipt.rows:,}"
    if receipt.rows_this_run == 0:
        return f"{receipt.rows:,} (none left for this run)"
    return f"{receipt.rows:,} ({receipt.rows_this_run:,} in this run, from row {receipt.resumed_at_row + 1:,} on)"


def _bytes(receipt: Receipt) -> str:
    crc32c = f", CRC32C {receipt.crc32c}" if receipt.crc32c else ""
    part = receipt.part
    all_bytes = receipt.source.size_bytes if part is None else part.end_byte - part.start_byte
    if receipt.bytes == all_bytes:
        return f"{receipt.bytes:,} ({human.size(receipt.bytes)}{crc32c})"
    return f"{receipt.bytes:,} of {all_bytes:,} ({human.size(receipt.bytes)}{crc32c})"


def _startup(receipt: Receipt) -> str:
    return "" if receipt.startup_s is None else f", the first row after {human.duration(receipt.startup_s)}"
