"""Bad rows set apart while all others come through: held against the oracle."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from csv2kafka import recordbatch
from csv2kafka.encoder import Encoder
from csv2kafka.errors import BadRow
from csv2kafka.model import Header, Portion, Position, SourceIdentity
from csv2kafka.quarantine import SetApart
from csv2kafka.simd import Offsets
from csv2kafka.splitter import split
from tests.support import csv_oracle
from tests.support.csv_oracle import Expected, Stop
from tests.support.record_oracle import Record
from tests.support.setup import Setup, by_lane, check, chunks, fault_of


def check_apart(data: bytes, expected: Expected, header: Header, setup: Setup) -> None:
    """With bad rows set apart all others come through, and these into a lane of their own; less what is there."""
    bad = [outcome for outcome in expected.outcomes if isinstance(outcome, Stop) and outcome.why != csv_oracle.UNCLOSED]
    wanted = by_lane([outcome for outcome in expected.outcomes if isinstance(outcome, Record)], setup)
    wanted[setup.lanes] = [_record_apart(stop, data) for stop in bad]
    limit_bytes = 1000 + 2 * max((stop.end_byte - stop.start_byte for stop in bad), default=0)
    source = SourceIdentity("s3://b/k", len(data), "etag", "v1")
    lanes = setup.lanes + 1
    for share in (0, 2):  # of each lane's records, one in so many is in the log
        skip = np.array([len(wanted.get(lane, ())) // share if share else 0 for lane in range(lanes)], np.int64)
        known = skip.copy()
        encoder = setup.encoder(header.columns, SetApart(source, limit_bytes))
        got: dict[int, list[Record]] = {}
        told: list[Stop] = []
        for portion in _portions_apart(data, header, encoder, setup, skip if share else None):
            for row in portion.bad_rows:
                fault = fault_of(row.reason, header.columns)
                told.append(Stop(row.row, row.byte_offset, row.byte_offset + len(row.text), *fault))
            for batch in portion.batches:
                if batch.lane == setup.lanes:
                    check(batch.size_bytes <= limit_bytes, "batch of bad rows too large", batch.size_bytes)
                records = csv_oracle.parse(recordbatch.decompress(batch.codec, memoryview(batch.records)))
                got.setdefault(batch.lane, []).extend(
                    _without_reason(records) if batch.lane == setup.lanes else records
                )
        check(told == bad, "rows set apart", told, bad)
        check(not skip.any(), "records left out with bad rows set apart", skip)
        for lane in range(lanes):
            want = wanted.get(lane, [])[known[lane] :]
            check(got.get(lane, []) == want, f"lane {lane} with bad rows set apart", got.get(lane), want)


def _portions_apart(
    data: bytes, header: Header, encoder: Encoder, setup: Setup, skip: Offsets | None
) -> Iterator[Portion]:
    """Chained from the file's first row to its last, or to one that never ends."""
    start, sizes = Position(0, header.end_byte), itertools.cycle(setup.block_bytes)
    parts = chunks(data[header.end_byte :], setup.chunk_bytes)
    try:
        for block in split(parts, start, setup.dialect, lambda: next(sizes)):
            encoded = encoder.encode(block, skip)
            check(encoded.bad is None, "set apart", encoded.bad)
            for portion in encoded.portions:
                check(portion.start.row == start.row, "portion's first row", portion.start, start)
                start = portion.end
                yield portion
    except BadRow as bad:
        check("never closed" in bad.reason, "set apart", bad)


def _record_apart(stop: Stop, data: bytes) -> Record:
    text = data[stop.start_byte : stop.end_byte]
    numbers = (("file.offset", stop.start_byte), ("file.length", len(text)), ("csv.row", stop.row))
    headers = (("file.name", b"s3://b/k"), ("file.version", b"v1"), *((name, b"%d" % value) for name, value in numbers))
    return Record(text, None, headers)


def _without_reason(records: Sequence[Record]) -> list[Record]:
    for record in records:
        check(record.headers[-1][0] == "error.reason" and record.headers[-1][1], "reason", record)
    return [replace(record, headers=record.headers[:-1]) for record in records]
