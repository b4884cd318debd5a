"""Objects and rows that cannot be loaded, through the plan's processor: what is told, what is in the topic by then."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import pytest

import processor as module
from csv2kafka.devbroker import Broker
from csv2kafka.errors import BadHeader, BadRow, SourceChanged, SourceMissing
from csv2kafka.model import Batch
from processor import CheckpointManager, CSVToKafkaProcessor, KafkaProducer
from tests.integration.conftest import both_ways
from tests.support import csv_oracle
from tests.support.admin import topics
from tests.support.aws import Aws, records, thousand_rows
from tests.support.oracle import read_topic

FIXTURES = Path(__file__).parent.parent / "fixtures"


@pytest.mark.e2e
@pytest.mark.kafka
class TestBadInput:
    @both_ways
    def test_a_malformed_row_in_the_middle_stops_before_it(
        self,
        aws_setup: Aws,
        broker: Broker,
        topic: str,
        checkpoint_mgr: CheckpointManager,
        make: Callable[..., CSVToKafkaProcessor],
    ) -> None:
        rows = thousand_rows().splitlines(keepends=True)
        rows[500] = b"499,item-499\r\n"  # row 500 lacks a field
        data = b"".join(rows)
        aws_setup.put(data)

        for _ in range(2):  # the second run finds the same row, and nothing is sent twice
            with pytest.raises(BadRow) as caught:
                make().process()

            error = caught.value
            start_byte = data.index(b"499,item-499\r\n")
            assert (error.exit_code, error.start.row + 1) == (65, 500)
            assert (error.start.byte_offset, error.end_byte) == (start_byte, start_byte + len(b"499,item-499"))
            assert error.message == (
                f"row 500 (bytes {error.start.byte_offset} to {error.end_byte}) "
                "has 2 fields where the header has 3; the job's rows before it are safe"
            )
            assert error.hint
            assert read_topic(broker.bootstrap, topic) == records(thousand_rows())[:499]
            item = aws_setup.item()
            assert (item["status"], item["last_line"], item["total_sent"]) == ("FAILED", 499, 499)
            assert item["byte_offset"] == start_byte
            assert checkpoint_mgr.get_last_processed_line() == 499

    @pytest.mark.parametrize(
        ("row", "reason"),
        [
            (b"7,too few\n", "has 2 fields where the header has 3"),
            (b"7\n", "has 1 field where the header has 3"),
            (b"7,too,many,fields\n", "has 4 fields where the header has 3"),
            (b"7,not \xff UTF-8,x\n", "is not valid UTF-8"),
            (b"7,cut \xe2\x82,x\n", "is not valid UTF-8"),
            (b'7,"never closed,x\n', "has a quote that is never closed"),
        ],
        ids=["short", "shorter", "long", "not UTF-8", "cut UTF-8", "unclosed quote"],
    )
    def test_every_kind_of_bad_row(
        self,
        aws_setup: Aws,
        broker: Broker,
        topic: str,
        make: Callable[..., CSVToKafkaProcessor],
        row: bytes,
        reason: str,
    ) -> None:
        before = b'id,name,value\n1,"quoted\nnewline",\n\n' + "2,größe,二\r\n".encode()
        data = before + row + b"8,good again,x\n"
        aws_setup.put(data)
        stop = csv_oracle.expect(data).stop
        assert stop is not None

        with pytest.raises(BadRow) as caught:
            make().process()

        error = caught.value
        assert (error.exit_code, error.reason, error.start.row + 1) == (65, reason, 3)
        assert (error.start.row + 1, error.start.byte_offset, error.end_byte) == (
            stop.row,
            stop.start_byte,
            stop.end_byte,
        )
        assert read_topic(broker.bootstrap, topic) == records(before)
        assert aws_setup.item()["status"] == "FAILED"
        assert aws_setup.item()["last_line"] == 2

    def test_a_record_beyond_the_topics_limit(
        self,
        aws_setup: Aws,
        broker: Broker,
        make_topic: Callable[..., str],
        make: Callable[..., CSVToKafkaProcessor],
    ) -> None:
        topic = make_topic(config={"max.message.bytes": "3000"})
        large = "".join(uuid.uuid4().hex for _ in range(200)).encode()  # 6,400 bytes that LZ4 cannot make small
        before = b"id,text\n" + b"".join(b"%d,small\n" % number for number in range(1000))
        data = before + b"1000," + large + b"\n1001,small\n"
        aws_setup.put(data)

        with pytest.raises(BadRow, match=r"max\.message\.bytes \(3000\)") as caught:
            make(kafka_topic=topic).process()

        error = caught.value
        assert (error.exit_code, error.start.row + 1) == (65, 1001)
        assert (error.start.byte_offset, error.end_byte) == (len(before), len(before) + len(b"1000,") + len(large))
        assert "kafka-configs.sh" in error.hint
        assert read_topic(broker.bootstrap, topic) == records(before)
        assert aws_setup.item()["status"] == "FAILED"

    @pytest.mark.parametrize(
        ("data", "complaint"),
        [
            (b"", "the file is empty"),
            (b"\n1,2\n", "its first line is empty"),
            (b"id,name,id\n1,2,3\n", "columns 1 and 3 of the header have the same name 'id'"),
            (b"id,,name\n1,2,3\n", "column 2 of 3 has no name"),
            (b"id,n\xe4me\n1,2\n", "the header is not UTF-8 at byte 4"),
            (b'id,"name\n1,2\n', "is a quote never closed"),
        ],
        ids=["empty", "blank", "repeated", "unnamed", "not UTF-8", "unclosed"],
    )
    def test_a_bad_header_is_told_before_anything_happens(
        self,
        aws_setup: Aws,
        broker: Broker,
        checkpoint_mgr: CheckpointManager,
        make: Callable[..., CSVToKafkaProcessor],
        data: bytes,
        complaint: str,
    ) -> None:
        topic = f"never-made-{uuid.uuid4().hex[:12]}"
        aws_setup.put(data)

        with pytest.raises(BadHeader, match=complaint) as caught:
            make(kafka_topic=topic).process()

        assert (caught.value.exit_code, bool(caught.value.hint)) == (65, True)
        # Not even a topic or a checkpoint is left behind: the mended object is an ordinary first run.
        assert topic not in topics(broker.bootstrap)
        assert "status" not in aws_setup.item()
        aws_setup.put(thousand_rows())
        assert make(kafka_topic=topic).process().rows_this_run == 1000

    @both_ways
    def test_a_changed_object_is_not_mixed_with_the_old_one(
        self,
        aws_setup: Aws,
        broker: Broker,
        topic: str,
        checkpoint_mgr: CheckpointManager,
        make: Callable[..., CSVToKafkaProcessor],
    ) -> None:
        aws_setup.put(thousand_rows() + b"1000,item-1000\r\n")  # stops behind row 1000
        with pytest.raises(BadRow):
            make().process()
        before = aws_setup.item()
        aws_setup.put(thousand_rows() + b"1000,item-1000,10000\r\n")

        with pytest.raises(SourceChanged) as caught:
            make().process()

        assert caught.value.exit_code == 66
        assert "--job-id NEW" in caught.value.hint
        assert "csv2kafka reset JOB" in caught.value.hint
        assert read_topic(broker.bootstrap, topic) == records(thousand_rows())
        after = aws_setup.item()
        assert [after[name] for name in ("status", "last_line", "source_etag")] == [
            before[name] for name in ("status", "last_line", "source_etag")
        ]

    def test_a_complete_job_says_so_only_of_the_object_it_loaded(
        self, aws_setup: Aws, broker: Broker, topic: str, make: Callable[..., CSVToKafkaProcessor]
    ) -> None:
        make().process()
        aws_setup.put(thousand_rows().replace(b"item-7,", b"item-X,"))

        with pytest.raises(SourceChanged):
            make().process()

        assert read_topic(broker.bootstrap, topic) == records(thousand_rows())
        assert aws_setup.item()["status"] == "COMPLETED"

    def test_an_object_that_is_replaced_while_it_is_read(
        self,
        aws_setup: Aws,
        broker: Broker,
        topic: str,
        make: Callable[..., CSVToKafkaProcessor],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        class Replaces(KafkaProducer):
            def send(self, batch: Batch) -> NoReturn:
                raise AssertionError("nothing may be sent")

        opener = module.smart_open

        def open_then_replace(*arguments: object, **options: object) -> object:
            source = opener(*arguments, **options)  # type: ignore[arg-type]
            aws_setup.put(thousand_rows().replace(b"item-7,", b"item-X,"))
            return source

        monkeypatch.setattr(module, "smart_open", open_then_replace)
        monkeypatch.setattr(module, "KafkaProducer", Replaces)
        with pytest.raises(SourceChanged) as caught:
            make().process()

        assert caught.value.exit_code == 66
        assert read_topic(broker.bootstrap, topic) == []

    def test_a_missing_object(self, broker: Broker, make: Callable[..., CSVToKafkaProcessor]) -> None:
        topic = f"never-made-{uuid.uuid4().hex[:12]}"

        with pytest.raises(SourceMissing) as caught:
            make(s3_key="other.csv", kafka_topic=topic).process()

        assert caught.value.exit_code == 66
        assert topic not in topics(broker.bootstrap)

    def test_malformed_data(
        self,
        aws_setup: Aws,
        broker: Broker,
        make_topic: Callable[..., str],
        make: Callable[..., CSVToKafkaProcessor],
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        """Each error says exactly which bytes to cut out; with all of them gone the rest loads.

        malformed_data.csv, by the id in its first column: 2 doubled quotes, a blank line, 3 a quoted newline and
        CR LF, 5 non-ASCII, 7 stray quotes (all fine); 4 lacks a field, 6 has one too many (a comma that is not
        quoted), 8 is Latin-1, 10 lacks four fields, 12 opens a quote that is never closed.
        """
        data = (FIXTURES / "malformed_data.csv").read_bytes()
        reasons: list[tuple[str, str]] = []
        for attempt in range(5):
            topic, job = make_topic(), CheckpointManager(aws_setup.table.name, f"attempt-{attempt}")
            aws_setup.put(data)
            with pytest.raises(BadRow) as caught:
                make(kafka_topic=topic, checkpoint_manager=job).process()
            bad = caught.value
            assert read_topic(broker.bootstrap, topic) == records(data)
            assert job.get_last_processed_line() == bad.start.row == len(records(data))
            number = data[bad.start.byte_offset : bad.end_byte].split(b",")[0].decode()
            reasons.append((number, bad.reason))
            data = data[: bad.start.byte_offset] + data[bad.end_byte :]
        assert reasons == [
            ("4", "has 4 fields where the header has 5"),
            ("6", "has 6 fields where the header has 5"),
            ("8", "is not valid UTF-8"),
            ("10", "has 1 field where the header has 5"),
            ("12", "has a quote that is never closed"),
        ]
        assert "asyncio" not in {record.name for record in caplog.records}
        topic, job = make_topic(), CheckpointManager(aws_setup.table.name, "mended")
        aws_setup.put(data)
        make(kafka_topic=topic, checkpoint_manager=job).process()
        values = read_topic(broker.bootstrap, topic)
        assert values == records(data)
        assert [value.split(b'"')[3].decode() for value in values] == ["1", "2", "3", "5", "7", "9", "11"]
