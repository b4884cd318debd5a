"""A CSV on S3 through CSVToKafkaProcessor into a real topic, read back by a client that shares no code with ours.

AWS is inside this process (moto), and for the main ways also a server behind AWS_ENDPOINT_URL.
"""

from __future__ import annotations

import asyncio
import uuid
from asyncio import Future
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import boto3
import pytest

import processor as module
from csv2kafka.devbroker import Broker
from csv2kafka.errors import BadRow, JobConflict
from csv2kafka.model import Batch
from processor import CheckpointManager, CSVToKafkaProcessor, KafkaProducer, MetricsEmitter
from tests.integration.conftest import both_ways
from tests.support.admin import topics
from tests.support.aws import Aws, records, thousand_rows
from tests.support.oracle import end_offset, read_topic

if TYPE_CHECKING:
    from mypy_boto3_cloudwatch import CloudWatchClient

FIXTURES = Path(__file__).parent.parent / "fixtures"


@pytest.mark.e2e
@pytest.mark.kafka
class TestEndToEnd:
    # The plan's two

    @both_ways
    def test_complete_processing(
        self, aws_setup: Aws, broker: Broker, topic: str, make: Callable[..., CSVToKafkaProcessor]
    ) -> None:
        checkpoint_mgr = CheckpointManager(aws_setup.table.name, "test-job")
        metrics = MetricsEmitter("TestNamespace", "test-job")

        receipt = make(checkpoint_manager=checkpoint_mgr, metrics_emitter=metrics, checkpoint_interval=100).process()

        assert checkpoint_mgr.get_last_processed_line() == 1000
        item = aws_setup.item()
        assert (item["status"], item["last_line"], item["total_sent"]) == ("COMPLETED", 1000, 1000)
        assert item["byte_offset"] == len(thousand_rows())
        assert (receipt.status, receipt.rows, receipt.rows_this_run) == ("complete", 1000, 1000)
        assert receipt.next_offset == end_offset(broker.bootstrap, topic)
        assert read_topic(broker.bootstrap, topic) == records(thousand_rows())
        assert read_topic(broker.bootstrap, topic, isolation="read_committed") == records(thousand_rows())

    @both_ways
    def test_recovery_from_checkpoint(
        self,
        aws_setup: Aws,
        broker: Broker,
        topic: str,
        make: Callable[..., CSVToKafkaProcessor],
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        checkpoint_mgr = CheckpointManager(aws_setup.table.name, "test-job")
        checkpoint_mgr.update_checkpoint(500, 500)
        assert checkpoint_mgr.get_last_processed_line() == 500

        receipt = make(checkpoint_manager=checkpoint_mgr).process()

        assert read_topic(broker.bootstrap, topic) == records(thousand_rows())[500:]
        assert (receipt.status, receipt.resumed_at_row, receipt.rows_this_run) == ("complete", 500, 500)
        item = aws_setup.item()
        assert (item["status"], item["last_line"], item["total_sent"]) == ("COMPLETED", 1000, 1000)
        assert "going on at row 501; rows sent after that checkpoint will repeat" in caplog.text

    def test_a_caller_with_an_event_loop_of_its_own(
        self, aws_setup: Aws, broker: Broker, topic: str, make: Callable[..., CSVToKafkaProcessor]
    ) -> None:
        async def notebook_cell() -> str:
            return make().process().status

        assert asyncio.run(notebook_cell()) == "complete"
        assert read_topic(broker.bootstrap, topic) == records(thousand_rows())

    # Recovery in all its forms

    def test_a_checkpoint_counts_records_not_lines(
        self,
        aws_setup: Aws,
        broker: Broker,
        topic: str,
        checkpoint_mgr: CheckpointManager,
        make: Callable[..., CSVToKafkaProcessor],
    ) -> None:
        data = b"id,text\r\n" + b"".join(b'%d,"first\nsecond\r\nthird"\r\n\r\n' % number for number in range(100))
        aws_setup.put(data)
        checkpoint_mgr.update_checkpoint(40, 40)

        make().process()

        assert read_topic(broker.bootstrap, topic) == records(data)[40:]
        assert checkpoint_mgr.get_last_processed_line() == 100

    @both_ways
    def test_a_stopped_run_goes_on_where_it_stood(
        self,
        aws_setup: Aws,
        broker: Broker,
        make_topic: Callable[..., str],
        make: Callable[..., CSVToKafkaProcessor],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        topic = make_topic(config={"max.message.bytes": "20000"})  # so that the file is many blocks and batches
        data = b"id,name\n" + b"".join(b"%d,name-of-number-%d\n" % (number, number) for number in range(50_000))
        aws_setup.put(data)
        first = make(kafka_topic=topic)

        class StopsAtOnce(KafkaProducer):
            def send(self, batch: Batch) -> Future[int]:
                first.stop()
                return super().send(batch)

        with monkeypatch.context() as patch:
            patch.setattr(module, "KafkaProducer", StopsAtOnce)
            stopped = first.process()

        assert stopped.status == "stopped"
        assert 0 < stopped.rows < 50_000
        assert aws_setup.item()["status"] == "IN_PROGRESS"
        assert read_topic(broker.bootstrap, topic) == records(data)[: stopped.rows]

        resumed = make(kafka_topic=topic).process()

        assert (resumed.status, resumed.resumed_at_row, resumed.rows) == ("complete", stopped.rows, 50_000)
        assert read_topic(broker.bootstrap, topic) == records(data)
        assert read_topic(broker.bootstrap, topic, isolation="read_committed") == records(data)

    @both_ways
    def test_processing_twice_says_already_complete(
        self, broker: Broker, topic: str, aws_setup: Aws, make: Callable[..., CSVToKafkaProcessor]
    ) -> None:
        processor = make()
        first = processor.process()
        end = end_offset(broker.bootstrap, topic)

        for again in (processor, make()):
            receipt = again.process()
            assert (receipt.status, receipt.rows, receipt.rows_this_run) == ("already complete", 1000, 0)
            assert (receipt.first_offset, receipt.next_offset) == (first.first_offset, first.next_offset)
        assert end_offset(broker.bootstrap, topic) == end
        assert aws_setup.item()["status"] == "COMPLETED"

    def test_a_job_that_was_marked_complete_sends_nothing(
        self,
        broker: Broker,
        topic: str,
        checkpoint_mgr: CheckpointManager,
        make: Callable[..., CSVToKafkaProcessor],
    ) -> None:
        checkpoint_mgr.mark_complete(1000)

        assert make().process().status == "already complete"
        assert end_offset(broker.bootstrap, topic) == 0

    def test_a_checkpoint_at_the_last_row_completes_without_sending(
        self,
        aws_setup: Aws,
        broker: Broker,
        topic: str,
        checkpoint_mgr: CheckpointManager,
        make: Callable[..., CSVToKafkaProcessor],
    ) -> None:
        checkpoint_mgr.update_checkpoint(1000, 1000)

        receipt = make().process()

        assert (receipt.status, receipt.rows_this_run) == ("complete", 0)
        assert read_topic(broker.bootstrap, topic) == []
        assert aws_setup.item()["status"] == "COMPLETED"

    def test_a_checkpoint_beyond_the_file_is_refused(
        self,
        aws_setup: Aws,
        broker: Broker,
        topic: str,
        checkpoint_mgr: CheckpointManager,
        make: Callable[..., CSVToKafkaProcessor],
    ) -> None:
        checkpoint_mgr.update_checkpoint(1001, 1001)

        with pytest.raises(JobConflict, match="has 1000 rows, but 1001 were sent") as caught:
            make().process()

        assert caught.value.exit_code == 78
        assert read_topic(broker.bootstrap, topic) == []
        assert checkpoint_mgr.get_last_processed_line() == 1001

    # The fixtures' files

    def test_sample_data(
        self, aws_setup: Aws, broker: Broker, topic: str, make: Callable[..., CSVToKafkaProcessor]
    ) -> None:
        aws_setup.put((FIXTURES / "sample_data.csv").read_bytes())

        assert make().process().rows == 3

        assert read_topic(broker.bootstrap, topic) == [
            b'{"id":"1","name":"Alice","email":"alice@example.com","value":"100","timestamp":"2026-01-01T00:00:00Z"}',
            b'{"id":"2","name":"Bob","email":"bob@example.com","value":"200","timestamp":"2026-01-01T00:01:00Z"}',
            b'{"id":"3","name":"Charlie","email":"charlie@example.com","value":"300",'
            b'"timestamp":"2026-01-01T00:02:00Z"}',
        ]

    # Topics and metrics

    def test_of_several_partitions_the_first_gets_every_row(
        self, broker: Broker, make_topic: Callable[..., str], make: Callable[..., CSVToKafkaProcessor]
    ) -> None:
        topic = make_topic(partitions=3)

        assert make(kafka_topic=topic).process().partition == 0

        assert read_topic(broker.bootstrap, topic, partition=0) == records(thousand_rows())
        assert [end_offset(broker.bootstrap, topic, partition) for partition in (1, 2)] == [0, 0]

    def test_a_missing_topic_is_made_with_one_partition(
        self, broker: Broker, make: Callable[..., CSVToKafkaProcessor], caplog: pytest.LogCaptureFixture
    ) -> None:
        topic = f"made-{uuid.uuid4().hex[:12]}"

        make(kafka_topic=topic).process()

        assert topics(broker.bootstrap)[topic] == 1
        assert f"created topic {topic}: 1 partition" in caplog.text
        assert read_topic(broker.bootstrap, topic) == records(thousand_rows())

    def test_records_of_others_stay_and_rows_follow(
        self, aws_setup: Aws, broker: Broker, topic: str, make: Callable[..., CSVToKafkaProcessor]
    ) -> None:
        for job_id in ("first-job", "second-job"):
            make(checkpoint_manager=CheckpointManager(aws_setup.table.name, job_id)).process()

        assert read_topic(broker.bootstrap, topic) == 2 * records(thousand_rows())

    @both_ways
    def test_metrics_arrive_in_cloudwatch(self, aws_setup: Aws, make: Callable[..., CSVToKafkaProcessor]) -> None:
        namespace = f"Test-{uuid.uuid4().hex[:12]}"
        cloudwatch = boto3.client("cloudwatch", region_name="us-east-1")

        make(metrics_emitter=MetricsEmitter(namespace, "test-job"), total_lines=1000).process()

        arrived = metrics(cloudwatch, namespace)
        assert arrived["RecordsProcessed"].most == 1000
        assert arrived["RecordsRemaining"].least == 0
        assert arrived["ProgressPercentage"].most == 100
        assert arrived["ETASeconds"].least == 0
        assert arrived["RecordsPerSecond"].most > 0
        assert arrived["KafkaLatency"].most > 0
        assert arrived["CheckpointCount"].most >= 1
        assert arrived["RetryCount"].most == 0
        assert "ErrorCount" not in arrived

    def test_a_failure_is_counted_in_cloudwatch(self, aws_setup: Aws, make: Callable[..., CSVToKafkaProcessor]) -> None:
        namespace = f"Test-{uuid.uuid4().hex[:12]}"
        cloudwatch = boto3.client("cloudwatch", region_name="us-east-1")
        aws_setup.put(thousand_rows() + b"bad\n")

        with pytest.raises(BadRow):
            make(metrics_emitter=MetricsEmitter(namespace, "test-job")).process()

        arrived = metrics(cloudwatch, namespace)
        assert arrived["ErrorCount"] == (1, 1)
        assert arrived["RecordsProcessed"].most == 1000


class Range(NamedTuple):
    least: float
    most: float


def metrics(cloudwatch: CloudWatchClient, namespace: str) -> dict[str, Range]:
    """What arrived of each metric of the job."""
    now = datetime.now(UTC)
    found = {}
    for name in {metric["MetricName"] for metric in cloudwatch.list_metrics(Namespace=namespace)["Metrics"]}:
        (point,) = cloudwatch.get_metric_statistics(
            Namespace=namespace,
            MetricName=name,
            Dimensions=[{"Name": "JobId", "Value": "test-job"}],
            StartTime=now - timedelta(hours=1),
            EndTime=now + timedelta(hours=1),
            Period=7200,
            Statistics=["Minimum", "Maximum"],
        )["Datapoints"]
        found[name] = Range(point["Minimum"], point["Maximum"])
    return found
