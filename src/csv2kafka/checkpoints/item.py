"""A checkpoint as a flat item of strings and whole numbers, the same in every store, and back.

No store, no lease and no clock may live here. A missing optional field is None; an item with the plan's fields
alone (job_id, last_line, total_sent, timestamp, status) is a checkpoint without a byte position. Values that
no run of this program writes (edited by hand, written by something else) raise JobConflict; a checksum tells values
that do not belong together, for a byte offset moved by a row would otherwise lose that row unnoticed.
"""

from __future__ import annotations

import hashlib
import json
from decimal import Decimal
from typing import Any

from csv2kafka.errors import JobConflict
from csv2kafka.model import (
    Checkpoint,
    JobStatus,
    LanePosition,
    LogPosition,
    OwnMark,
    Quarantine,
    Restart,
    SourceIdentity,
)

Item = dict[str, Any]  # written: str and int; read back: whatever somebody left in the store

_SOURCE_FIELDS: dict[str, type] = {
    "source_uri": str,
    "source_size_bytes": int,
    "source_etag": str,
    "source_version_id": str,
}
_LAST_OWN_FIELDS: dict[str, type] = {
    "last_own_producer_id": int,
    "last_own_producer_epoch": int,
    "last_own_sequence": int,
}
_RESTART_FIELDS: dict[str, type] = {"restart_text_byte": int, "restart_object_byte": int}
_QUARANTINE_FIELDS: dict[str, type] = {
    "bad_rows": int,
    "bad_rows_to": str,
    "bad_rows_reasons": str,  # a JSON list of pairs
    "bad_rows_file_bytes": int,
}
_LOG_FIELDS: dict[str, type] = {
    "cluster_id": str,
    "topic": str,
    "topic_id": str,
    "partition": int,
    "kafka_next_offset": int,
    "ahead_rows": int,
    "producer_ids": str,  # comma-separated: an item stays flat
    **_LAST_OWN_FIELDS,
    "more_lanes": str,  # the lanes behind the first, whose fields are the ones above: a JSON list of lists
}
CHECKPOINT_FIELDS: dict[str, type] = {
    "job_id": str,
    "status": str,
    "last_line": int,
    "total_sent": int,
    "timestamp": str,
    "byte_offset": int,
    "record_shape": str,
    "first_offset": int,
    **_RESTART_FIELDS,
    **_SOURCE_FIELDS,
    **_LOG_FIELDS,
    **_QUARANTINE_FIELDS,
    "crc32c": int,
    "rows_per_s": int,
    "last_error": str,
    "checksum": str,
}

_LANE_NAMES = ("topic", "topic_id", "partition", "kafka_next_offset", "first_offset", "ahead_rows", *_LAST_OWN_FIELDS)
_MOST = 2**63 - 1  # what SQLite and Kafka can hold


_TOTAL_LINES, _DOCUMENT = "#total_lines", "#document"


def total_lines_key(job_id: str) -> str:
    """The key under which a counted number of lines is kept, apart from the item that the lease guards."""
    return f"{job_id}{_TOTAL_LINES}"


def document_key(name: str, page: str = "") -> str:
    """The key under which a document, or a page of it, is kept among the jobs' items."""
    return f"{name}{_DOCUMENT}{page}"


def is_job(item: Item) -> bool:
    key = str(item.get("job_id", ""))
    return not key.endswith(_TOTAL_LINES) and _DOCUMENT not in key


def to_item(checkpoint: Checkpoint, timestamp: str) -> Item:
    """The checkpoint's fields, those that are None left out; `timestamp` (ISO 8601, UTC) replaces its own."""
    source, log = checkpoint.source, checkpoint.log
    item: Item = {
        "job_id": checkpoint.job_id,
        "status": checkpoint.status.value,
        # int() because callers count with NumPy, whose numbers no store takes.
        "last_line": int(checkpoint.last_line),
        "total_sent": int(checkpoint.total_sent),
        "timestamp": timestamp,
        "byte_offset": checkpoint.byte_offset,
        "record_shape": checkpoint.record_shape,
        "crc32c": checkpoint.crc32c,
        "rows_per_s": checkpoint.rows_per_s,
        "last_error": checkpoint.last_error,
    }
    if source is not None:
        item |= {
            "source_uri": source.uri,
            "source_size_bytes": source.size_bytes,
            "source_etag": source.etag,
            "source_version_id": source.version_id,
        }
    if checkpoint.restart is not None:
        item |= {
            "restart_text_byte": checkpoint.restart.text_byte,
            "restart_object_byte": checkpoint.restart.object_byte,
        }
    if checkpoint.quarantine is not None:
        item |= _quarantine_to_item(checkpoint.quarantine)
    if log is not None:
        item |= {
            "cluster_id": log.cluster_id,
            "producer_ids": ",".join(map(str, log.producer_ids)) or None,
            **_lane_to_item(log.lanes[0]),
            "more_lanes": json.dumps([_lane_values(lane) for lane in log.lanes[1:]]) if log.lanes[1:] else None,
        }
    item = {name: value for name, value in item.items() if value is not None}
    return item if log is None else item | {"checksum": _checksum(item)}


def from_item(item: Item) -> Checkpoint | None:
    """The checkpoint in an item, None when it holds none (a lease was taken, nothing saved yet)."""
    if not any(item.get(name) is not None for name in CHECKPOINT_FIELDS if name != "job_id"):
        return None
    last_line = required_number(item, "last_line")
    total_sent = number(item, "total_sent")
    checkpoint = Checkpoint(
        job_id=required_text(item, "job_id"),
        last_line=last_line,
        # Who counted lines without counting what was sent has sent what was counted.
        total_sent=last_line if total_sent is None else total_sent,
        status=_status(item),
        byte_offset=number(item, "byte_offset"),
        source=_source(item),
        record_shape=text(item, "record_shape"),
        log=_log(item),
        restart=_restart(item),
        quarantine=_quarantine(item),
        crc32c=number(item, "crc32c"),
        rows_per_s=number(item, "rows_per_s"),
        last_error=text(item, "last_error"),
        timestamp=str(item.get("timestamp", "")),  # shown, never computed with: any form will do
    )
    checksum = text(item, "checksum")
    if checksum is not None and checksum != to_item(checkpoint, "").get("checksum"):
        raise JobConflict(
            f"the stored checkpoint of job {checkpoint.job_id} was changed by something else than csv2kafka: "
            "its values do not belong together",
            hint="put back what csv2kafka wrote if you have a copy, or forget the job: "
            f"csv2kafka reset {checkpoint.job_id}",
        )
    return checkpoint


def _checksum(item: Item) -> str:
    """Of all that a checkpoint says, but for its time."""
    said = json.dumps({name: value for name, value in item.items() if name != "timestamp"}, sort_keys=True)
    return hashlib.sha256(said.encode()).hexdigest()[:16]


def number(item: Item, name: str, *, least: int = 0) -> int | None:
    """A whole number of at least `least`, None when the field is missing; anything else raises JobConflict."""
    value = item.get(name)
    if value is None:
        return None
    whole = isinstance(value, int) and not isinstance(value, bool)
    if isinstance(value, Decimal):  # how DynamoDB returns numbers
        whole = value.is_finite() and value == value.to_integral_value()
    if not whole or not least <= value <= _MOST:
        raise conflict(item, name, f"not a whole number from {least} on")
    return int(value)


def text(item: Item, name: str) -> str | None:
    """A string, None when the field is missing; anything else raises JobConflict."""
    value = item.get(name)
    if value is not None and not isinstance(value, str):
        raise conflict(item, name, "not a text")
    return value


def required_number(item: Item, name: str, *, least: int = 0) -> int:
    value = number(item, name, least=least)
    if value is None:
        raise conflict(item, name, "although fields that belong to it are there")
    return value


def required_text(item: Item, name: str) -> str:
    value = text(item, name)
    if value is None:
        raise conflict(item, name, "although fields that belong to it are there")
    return value


def conflict(item: Item, name: str, complaint: str) -> JobConflict:
    job_id = item.get("job_id", "?")
    value = item.get(name)
    plain = str(value) if isinstance(value, Decimal) else repr(value)
    found = "is missing" if value is None else f"is {plain},"
    return JobConflict(
        f"the stored checkpoint of job {job_id} makes no sense: {name} {found} {complaint}",
        hint=f"put back what csv2kafka wrote if you have a copy, or forget the job: csv2kafka reset {job_id}",
    )


def _status(item: Item) -> JobStatus:
    status = text(item, "status")
    if status is None:
        return JobStatus.IN_PROGRESS
    if status not in [known.value for known in JobStatus]:
        raise conflict(item, "status", f"not one of {', '.join(JobStatus)}")
    return JobStatus(status)


def _source(item: Item) -> SourceIdentity | None:
    if not _any_of(item, _SOURCE_FIELDS):
        return None
    return SourceIdentity(
        uri=required_text(item, "source_uri"),
        size_bytes=required_number(item, "source_size_bytes"),
        etag=required_text(item, "source_etag"),
        version_id=text(item, "source_version_id"),
    )


def _restart(item: Item) -> Restart | None:
    if not _any_of(item, _RESTART_FIELDS):
        return None
    return Restart(required_number(item, "restart_text_byte"), required_number(item, "restart_object_byte"))


def _quarantine_to_item(quarantine: Quarantine) -> Item:
    return {
        "bad_rows": quarantine.rows,
        "bad_rows_to": quarantine.place,
        "bad_rows_reasons": json.dumps(quarantine.reasons, ensure_ascii=False) if quarantine.reasons else None,
        "bad_rows_file_bytes": quarantine.file_bytes or None,
    }


def _quarantine(item: Item) -> Quarantine | None:
    if not _any_of(item, _QUARANTINE_FIELDS):
        return None
    try:
        reasons = tuple((str(reason), int(rows)) for reason, rows in json.loads(text(item, "bad_rows_reasons") or "[]"))
    except (ValueError, TypeError):
        raise conflict(item, "bad_rows_reasons", "not a list of reasons") from None
    return Quarantine(
        place=required_text(item, "bad_rows_to"),
        rows=required_number(item, "bad_rows"),
        reasons=reasons,
        file_bytes=number(item, "bad_rows_file_bytes") or 0,
    )


def _log(item: Item) -> LogPosition | None:
    if not _any_of(item, _LOG_FIELDS):
        return None
    return LogPosition(
        cluster_id=required_text(item, "cluster_id"),
        lanes=(_lane(item), *_more_lanes(item)),
        producer_ids=_producer_ids(item),
    )


def _lane_to_item(lane: LanePosition) -> Item:
    own = lane.last_own
    return {
        "topic": lane.topic,
        "topic_id": lane.topic_id,
        "partition": lane.partition,
        "kafka_next_offset": lane.next_offset,
        "first_offset": lane.first_offset,
        "ahead_rows": lane.ahead_rows or None,
        "last_own_producer_id": own and own.producer_id,
        "last_own_producer_epoch": own and own.producer_epoch,
        "last_own_sequence": own and own.last_sequence,
    }


def _lane(item: Item) -> LanePosition:
    return LanePosition(
        topic=required_text(item, "topic"),
        topic_id=required_text(item, "topic_id"),
        partition=required_number(item, "partition"),
        next_offset=required_number(item, "kafka_next_offset"),
        first_offset=number(item, "first_offset") or 0,
        last_own=_last_own(item),
        ahead_rows=number(item, "ahead_rows") or 0,
    )


def _lane_values(lane: LanePosition) -> list[Any]:
    return [_lane_to_item(lane)[name] for name in _LANE_NAMES]


def _more_lanes(item: Item) -> list[LanePosition]:
    listed = text(item, "more_lanes")
    if listed is None:
        return []
    try:
        return [_lane(dict(zip(_LANE_NAMES, values, strict=True))) for values in json.loads(listed)]
    except (ValueError, TypeError):
        raise conflict(item, "more_lanes", "not a list of lanes") from None


def _last_own(item: Item) -> OwnMark | None:
    if not _any_of(item, _LAST_OWN_FIELDS):
        return None
    return OwnMark(
        producer_id=required_number(item, "last_own_producer_id"),
        producer_epoch=required_number(item, "last_own_producer_epoch"),
        last_sequence=required_number(item, "last_own_sequence", least=-1),  # -1: a control marker
    )


def _producer_ids(item: Item) -> tuple[int, ...]:
    listed = text(item, "producer_ids")
    if listed is None:
        return ()
    parts = listed.split(",")
    if not all(part.isascii() and part.isdecimal() for part in parts):
        raise conflict(item, "producer_ids", "not whole numbers with commas between them")
    return tuple(map(int, parts))


def _any_of(item: Item, names: dict[str, type]) -> bool:
    return any(item.get(name) is not None for name in names)
