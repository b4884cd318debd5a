"""A job's bad rows: shown as the CSV that they were, and loaded once they are mended, as records like the job's own."""

from __future__ import annotations

import asyncio
import csv
import hashlib
import io
import os
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from typing import Any, BinaryIO

from csv2kafka import jobs, quarantine, quarantine_file, recordbatch, shaping
from csv2kafka.encoder import Encoder
from csv2kafka.errors import BadData, BadHeader, BadRow, JobConflict
from csv2kafka.kafka import tail
from csv2kafka.kafka.client import Client, Partition
from csv2kafka.kafka_settings import KafkaSettings
from csv2kafka.lookup import job_of
from csv2kafka.metrics import MetricsSink
from csv2kafka.model import (
    Checkpoint,
    Header,
    JobStatus,
    Naming,
    Position,
    Quarantine,
    RecordShape,
    TextFormat,
)
from csv2kafka.outcome import dead_letters_of, lanes_of
from csv2kafka.pipeline import StopFlag
from csv2kafka.receipt import Receipt
from csv2kafka.settings import RunSettings, StoreSettings
from csv2kafka.splitter import split

_NO_LIMIT_BYTES = 1 << 40


@dataclass(frozen=True, slots=True)
class QuarantinedJob:
    """A job that has set rows apart, as its checkpoint tells of it."""

    checkpoint: Checkpoint
    quarantine: Quarantine
    shape: RecordShape

    @classmethod
    def find(cls, store: StoreSettings, job_id: str) -> QuarantinedJob:
        """Raises JobConflict where there is no such job or it has no quarantine."""
        found = job_of(store, job_id)
        if found.quarantine is None:
            raise JobConflict(
                f"job {job_id} set no rows apart", hint="It would with --bad-rows quarantine: run it again so."
            )
        return cls(found, found.quarantine, shaping.shape_from(found.record_shape or ""))

    def write(self, out: BinaryIO, kafka: Callable[[], KafkaSettings], *, as_json: bool) -> None:
        """Write the bad rows as CSV under the job's columns, or (JSON) a line for each with where and why."""
        if not as_json:
            out.write(self._header())
        if self.quarantine.is_file:
            for line in quarantine_file.lines(self.quarantine):
                out.write(line if as_json else quarantine.text_of_line(line) + b"\n")
        else:
            asyncio.run(self._write_records(out, kafka(), as_json=as_json))

    def flags(self, source: str) -> dict[str, Any]:
        """The options under which mended rows are loaded: as the job was, from a file of their own, once."""
        lanes = lanes_of(self.checkpoint)
        if self.checkpoint.status != JobStatus.COMPLETED or not lanes:
            raise JobConflict(
                f"job {self.checkpoint.job_id} is not complete, and could set more rows apart",
                hint="Finish it first: its own command again.",
            )
        dialect = self.shape.dialect
        digest = hashlib.sha256(os.path.abspath(source).encode()).hexdigest()[:8]
        return {
            "source": source,
            "topic": lanes[0].topic,
            "partition": None if self.shape.key and len(lanes) > 1 else lanes[0].partition,
            "key": self.shape.key,
            "job_id": f"{self.checkpoint.job_id}.replay-{digest}",
            "delimiter": dialect.delimiter,
            "quote": dialect.quote,
            "escape": dialect.escape,
            "bad_rows": "fail",
        }

    def shape_of(self, header: Header, text: TextFormat, file_name: str) -> RecordShape:
        """The job's own shape for the mended file. Raises BadHeader for other columns."""
        if header.columns != self.shape.columns:
            raise BadHeader(
                f"the columns are {', '.join(header.columns[:20])}, the job's are {', '.join(self.shape.columns[:20])}",
                hint="Keep the first line as csv2kafka bad-rows wrote it.",
            )
        return replace(
            self.shape,
            naming=Naming(),
            text=text,
            file_name=file_name if self.shape.file_name is not None else None,
            part=None,
        )

    def load(
        self, settings: RunSettings, *, sinks: Sequence[MetricsSink], stop: StopFlag, notify: jobs.Notify
    ) -> Receipt:
        """Load the mended rows, exactly once as any file. Raises as `jobs.run` does.

        Nothing is sent before all of them can be: a file mended once more would be another, and be loaded anew.
        """
        try:
            self._encode_all(settings)
        except BadRow as bad:
            raise BadData(
                f"row {bad.start.row + 1} of {settings.source} (bytes {bad.start.byte_offset} to {bad.end_byte}) "
                f"{bad.reason}; nothing was sent",
                hint="Mend it there, or take it out, and run the same command again.",
            ) from None
        return jobs.load(settings, jobs.Parts(sinks=sinks, shape_of=self.shape_of), stop=stop, notify=notify)

    def _encode_all(self, settings: RunSettings) -> None:
        with shaping.opened(settings, region=settings.region, profile=settings.profile) as (source, text, header):
            shape = self.shape_of(header, text, source.identity.uri)
            encoder = Encoder(shape, recordbatch.CODECS["none"], _NO_LIMIT_BYTES)
            start = Position(0, header.end_byte)
            with closing(source.read_from(start.byte_offset)) as chunks:
                for block in split(chunks, start, shape.dialect, lambda: encoder.block_bytes):
                    bad = encoder.encode(block).bad
                    if bad is not None:
                        raise bad

    def _header(self) -> bytes:
        dialect = self.shape.dialect
        line = io.StringIO()
        writer = csv.writer(
            line,
            delimiter=dialect.delimiter,
            quotechar=dialect.quote,
            escapechar=dialect.escape,
            lineterminator="\n",
        )
        writer.writerow(self.shape.columns)
        return line.getvalue().encode()

    async def _write_records(self, out: BinaryIO, kafka: KafkaSettings, *, as_json: bool) -> None:
        rows = 0
        async with Client(kafka) as client:
            async for value, headers in self._records(client):
                rows += 1
                out.write(quarantine.line_of_record(value, headers) if as_json else value + b"\n")
        if rows != self.quarantine.rows:
            raise JobConflict(
                f"{self.quarantine.place} holds {rows} of this job's {self.quarantine.rows} bad rows",
                hint="The others have expired or were purged; the reasons are in the job's receipt.",
            )

    async def _records(self, client: Client) -> AsyncIterator[tuple[bytes, dict[str, bytes]]]:
        lane, log = dead_letters_of(self.checkpoint), self.checkpoint.log
        if lane is None or log is None:
            raise AssertionError("a dead-letter topic has a lane")
        partition = Partition(lane.topic, lane.topic_id, lane.partition)
        await client.confirm(partition)
        first, _ = await tail.log_range(client, partition)
        start = max(first, lane.first_offset)
        async for header, records in tail.own_batches(client, partition, start, lane.next_offset, log.producer_ids):
            for body in recordbatch.bodies(recordbatch.decompress(header.codec, records)):
                yield recordbatch.unframe(body)
