"""CSVToKafkaProcessor without any server: ETA, counting lines, what it hands to the pipeline, how it ends.

Loading rows needs a broker and is proven in tests/integration/test_end_to_end.py.
"""

from __future__ import annotations

import logging
import socket
from collections.abc import Callable, Iterator
from dataclasses import replace
from decimal import Decimal
from typing import Any
from unittest.mock import MagicMock, Mock, call, patch

import pytest

import processor as module
from csv2kafka.errors import BadRow, KafkaUnavailable, UsageError
from csv2kafka.jobs import Parts
from csv2kafka.model import (
    Checkpoint,
    Dialect,
    JobStatus,
    LanePosition,
    LogPosition,
    Position,
    SourceIdentity,
)
from csv2kafka.receipt import LaneReceipt, Receipt
from csv2kafka.settings import RunSettings
from csv2kafka.splitter import read_header
from processor import CheckpointManager, CSVToKafkaProcessor, MetricsEmitter

IDENTITY = SourceIdentity("s3://test-bucket/test.csv", 2_000, '"etag"')
RECEIPT = Receipt(
    "test-job", IDENTITY, "test-topic", (LaneReceipt("test-topic", 0, 0, 4),), "complete", 3, 3, 2_000,
    "fenced", 1, 0, 0.5, 6.0, 0, 0.1,
)  # fmt: skip
BAD_ROW = BadRow(Position(3, 40), 52, "is not valid UTF-8", hint="mend it")


@pytest.fixture(scope="module")
def kernel() -> None:
    """Have the kernel compiled, or loaded from its cache, before a test that may not take long."""
    read_header([b"id\n"], Dialect())


class TestCSVToKafkaProcessor:
    @pytest.fixture
    def mock_dependencies(self) -> Iterator[None]:
        with patch("boto3.client"), patch("processor.KafkaProducer"), patch("processor.smart_open"):
            yield

    @pytest.fixture
    def checkpoint(self) -> Mock:
        manager = Mock(spec=CheckpointManager)
        manager.job_id = "test-job"
        manager.table.get_item.return_value = {}
        return manager

    @pytest.fixture
    def make(self, mock_dependencies: None, checkpoint: Mock) -> Callable[..., CSVToKafkaProcessor]:
        def make(**changes: Any) -> CSVToKafkaProcessor:
            arguments = {
                "s3_bucket": "test-bucket",
                "s3_key": "test.csv",
                "kafka_bootstrap_servers": "localhost:9092",
                "kafka_topic": "test-topic",
                "checkpoint_manager": checkpoint,
            }
            return CSVToKafkaProcessor(**{**arguments, **changes})

        return make

    @pytest.fixture
    def load(self) -> Iterator[Mock]:
        """What `process` hands to the pipeline ends here."""
        with patch("processor.jobs.load", return_value=RECEIPT) as load:
            yield load

    # ETA

    def test_calculate_eta(self, make: Callable[..., CSVToKafkaProcessor]) -> None:
        processor = make(total_lines=100_000)
        processor.start_time = processor.start_time - 10

        # 1,000 rows a second so far, 90,000 rows to go.
        assert processor._calculate_eta(10_000) == pytest.approx(90.0, rel=0.1)

    def test_calculate_eta_no_total_lines(self, make: Callable[..., CSVToKafkaProcessor]) -> None:
        processor = make(total_lines=None)
        processor.start_time -= 10

        assert processor._calculate_eta(10_000) == 0

    @pytest.mark.parametrize("processed", [0, 100_000, 100_001])
    def test_calculate_eta_of_nothing_done_and_of_everything_done(
        self, make: Callable[..., CSVToKafkaProcessor], processed: int
    ) -> None:
        processor = make(total_lines=100_000)
        processor.start_time -= 10

        assert processor._calculate_eta(processed) == 0

    # The number of lines

    def test_get_total_lines_cached(self, make: Callable[..., CSVToKafkaProcessor], checkpoint: Mock) -> None:
        checkpoint.table.get_item.return_value = {"Item": {"total_lines": 50_000}}

        assert make()._get_total_lines() == 50_000

        module.smart_open.assert_not_called()  # type: ignore[attr-defined]
        checkpoint.table.put_item.assert_not_called()

    def test_get_total_lines_count(self, make: Callable[..., CSVToKafkaProcessor], checkpoint: Mock) -> None:
        checkpoint.table.get_item.side_effect = Exception("Not found")
        self._object_has(f"line{number}" for number in range(100))

        assert make()._get_total_lines() == 100

        module.smart_open.assert_called_once_with("s3://test-bucket/test.csv")  # type: ignore[attr-defined]
        checkpoint.table.put_item.assert_called_once()
        assert checkpoint.table.put_item.call_args[1]["Item"]["total_lines"] == 100

    def test_the_cached_number_stands_apart_from_the_item_that_the_lease_guards(
        self, make: Callable[..., CSVToKafkaProcessor], checkpoint: Mock
    ) -> None:
        self._object_has(["line"])

        make()._get_total_lines()

        key = checkpoint.table.get_item.call_args[1]["Key"]
        assert key["job_id"] != "test-job"
        assert checkpoint.table.put_item.call_args[1]["Item"] == {**key, "total_lines": 1}

    @pytest.mark.parametrize("cached", [0, Decimal(0)])
    def test_a_cached_zero_is_a_number(
        self, make: Callable[..., CSVToKafkaProcessor], checkpoint: Mock, cached: int | Decimal
    ) -> None:
        checkpoint.table.get_item.return_value = {"Item": {"total_lines": cached}}

        total = make()._get_total_lines()

        assert (total, type(total)) == (0, int)
        module.smart_open.assert_not_called()  # type: ignore[attr-defined]

    @pytest.mark.parametrize("answer", [{}, {"Item": {}}, {"Item": {"total_lines": None}}])
    def test_an_item_without_the_number_has_the_lines_counted(
        self, make: Callable[..., CSVToKafkaProcessor], checkpoint: Mock, answer: dict[str, Any]
    ) -> None:
        checkpoint.table.get_item.return_value = answer
        self._object_has([])

        assert make()._get_total_lines() == 0
        checkpoint.table.put_item.assert_called_once()

    def test_what_was_counted_counts_although_it_cannot_be_cached(
        self, make: Callable[..., CSVToKafkaProcessor], checkpoint: Mock, caplog: pytest.LogCaptureFixture
    ) -> None:
        checkpoint.table.put_item.side_effect = Exception("throttled")
        self._object_has(["one", "two"])

        assert make()._get_total_lines() == 2
        assert "throttled" in caplog.text

    # What the pipeline gets

    def test_process_hands_everything_on(
        self, make: Callable[..., CSVToKafkaProcessor], checkpoint: Mock, load: Mock
    ) -> None:
        emitter = Mock(spec=MetricsEmitter)
        processor = make(metrics_emitter=emitter, checkpoint_interval=100, total_lines=3)

        assert processor.process() is RECEIPT

        settings, parts = load.call_args[0]
        assert isinstance(settings, RunSettings)
        assert (settings.source, settings.topic, settings.partition) == ("s3://test-bucket/test.csv", "test-topic", 0)
        assert (settings.job_id, settings.checkpoint_interval_rows) == ("test-job", 100)
        assert settings.kafka.bootstrap == "localhost:9092"
        assert isinstance(parts, Parts)
        assert parts.store is checkpoint
        assert parts.store_is_only_authority
        assert (parts.rows_total, parts.sinks) == (3, (emitter,))

    def test_process_uses_the_sender_and_the_opener_of_the_module_as_they_are_then(
        self, make: Callable[..., CSVToKafkaProcessor], load: Mock
    ) -> None:
        processor = make()
        with patch("processor.KafkaProducer") as sender, patch("processor.smart_open") as opener:
            processor.process()

        parts = load.call_args[0][1]
        assert parts.sender_factory is sender
        assert parts.open_source is opener

    def test_process_counts_no_lines(
        self, make: Callable[..., CSVToKafkaProcessor], checkpoint: Mock, load: Mock
    ) -> None:
        make().process()

        assert load.call_args[0][1].rows_total is None
        checkpoint.table.get_item.assert_not_called()
        module.smart_open.assert_not_called()  # type: ignore[attr-defined]

    def test_process_measures_time_from_its_own_begin(
        self, make: Callable[..., CSVToKafkaProcessor], load: Mock
    ) -> None:
        processor = make()
        processor.start_time = made_at = 0.0

        processor.process()

        assert processor.start_time > made_at

    def test_process_says_what_it_does_in_the_log(
        self, make: Callable[..., CSVToKafkaProcessor], load: Mock, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level(logging.INFO, "processor")
        load.side_effect = lambda settings, parts, stop, notify: notify("job test-job: starting at row 1")

        make().process()

        assert caplog.messages == ["job test-job: starting at row 1"]

    def test_stop_is_seen_by_a_running_process(self, make: Callable[..., CSVToKafkaProcessor], load: Mock) -> None:
        processor = make()
        seen = []

        def run(settings: RunSettings, parts: Parts, *, stop: Any, notify: Any) -> Receipt:
            seen.append(stop.is_set())
            processor.stop()
            seen.append(stop.is_set())
            return replace(RECEIPT, status="stopped")

        load.side_effect = run

        assert processor.process().status == "stopped"
        assert seen == [False, True]

    def test_a_stop_before_process_is_not_forgotten(self, make: Callable[..., CSVToKafkaProcessor], load: Mock) -> None:
        processor = make()
        processor.stop()

        processor.process()

        assert load.call_args[1]["stop"].is_set()

    # How it ends

    def test_metrics_are_pushed_out_at_the_end(self, make: Callable[..., CSVToKafkaProcessor], load: Mock) -> None:
        emitter = Mock(spec=MetricsEmitter)

        make(metrics_emitter=emitter).process()

        assert emitter.method_calls == [call.close()]

    def test_a_failure_is_counted_before_metrics_are_pushed_out(
        self, make: Callable[..., CSVToKafkaProcessor], load: Mock
    ) -> None:
        emitter = Mock(spec=MetricsEmitter)
        load.side_effect = BAD_ROW

        with pytest.raises(BadRow):
            make(metrics_emitter=emitter).process()

        assert emitter.method_calls == [call.emit_error(), call.close()]

    def test_a_failure_without_metrics_is_raised_all_the_same(
        self, make: Callable[..., CSVToKafkaProcessor], load: Mock
    ) -> None:
        load.side_effect = BAD_ROW

        with pytest.raises(BadRow, match=r"row 4 .*the job's rows before it are safe"):
            make().process()

    def test_a_complete_job_is_told_without_asking_kafka(
        self, make: Callable[..., CSVToKafkaProcessor], checkpoint: Mock
    ) -> None:
        log = LogPosition("cluster", (LanePosition("test-topic", "topic-id", 0, 1_001, 0),))
        checkpoint.acquire.return_value = Checkpoint(
            "test-job", 1_000, 1_000, JobStatus.COMPLETED, 2_000, IDENTITY, "{}", log
        )
        module.smart_open.return_value.__enter__.return_value.identity = IDENTITY  # type: ignore[attr-defined]

        receipt = make(kafka_bootstrap_servers=f"127.0.0.1:{_nobody_listens()}").process()

        assert (receipt.status, receipt.rows, receipt.rows_this_run) == ("already complete", 1_000, 0)
        assert (receipt.first_offset, receipt.next_offset) == (0, 1_001)
        assert module.smart_open.call_args[1]["expected"] == IDENTITY  # type: ignore[attr-defined]
        checkpoint.release.assert_called_once_with()

    @pytest.mark.usefixtures("kernel")
    def test_without_a_broker_nothing_is_sent_and_the_lease_is_given_back(
        self, make: Callable[..., CSVToKafkaProcessor], checkpoint: Mock
    ) -> None:
        checkpoint.acquire.return_value = None
        source = module.smart_open.return_value.__enter__.return_value  # type: ignore[attr-defined]
        source.identity = IDENTITY
        source.read_at.return_value = b"id,name\n1,one\n"
        source.read_from.return_value = (chunk for chunk in [b"id,name\n", b"1,one\n"])

        with pytest.raises(KafkaUnavailable, match="no broker answers") as caught:
            make(kafka_bootstrap_servers=f"127.0.0.1:{_nobody_listens()}").process()

        assert caught.value.exit_code == 75
        module.KafkaProducer.assert_not_called()  # type: ignore[attr-defined]
        checkpoint.save.assert_not_called()
        checkpoint.release.assert_called_once_with()

    @pytest.mark.parametrize(
        ("wrong", "named"),
        [({"kafka_topic": "no topic!"}, "topic"), ({"checkpoint_interval": 0}, "checkpoint_interval")],
    )
    def test_wrong_arguments_are_clear_errors(
        self, make: Callable[..., CSVToKafkaProcessor], wrong: dict[str, Any], named: str
    ) -> None:
        emitter = Mock(spec=MetricsEmitter)
        with pytest.raises(UsageError, match=named):
            make(metrics_emitter=emitter, **wrong).process()
        emitter.close.assert_called_once_with()

    @staticmethod
    def _object_has(lines: Any) -> None:
        file = MagicMock()
        file.__enter__.return_value = iter(lines)
        module.smart_open.return_value = file  # type: ignore[attr-defined]


def _nobody_listens() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])
