"""The module that the testing plan names: its three classes, over the same pipeline as the command line.

`CheckpointManager` is the DynamoDB store, `MetricsEmitter` the CloudWatch sink. `KafkaProducer` (our sender) and
`smart_open` (our opener) are looked up here when they are used, so that a test may put its own in their place.
"""

from __future__ import annotations

import logging
import threading
import time

from csv2kafka import jobs
from csv2kafka.checkpoints.dynamodb import CheckpointManager
from csv2kafka.checkpoints.item import total_lines_key
from csv2kafka.errors import Csv2KafkaError
from csv2kafka.eta import eta_s
from csv2kafka.kafka.sender import Sender as KafkaProducer
from csv2kafka.metrics.cloudwatch import MetricsEmitter
from csv2kafka.receipt import Receipt
from csv2kafka.settings import checked_run
from csv2kafka.sources import open_source as smart_open

__all__ = ["CSVToKafkaProcessor", "CheckpointManager", "KafkaProducer", "MetricsEmitter", "smart_open"]

_LOG = logging.getLogger(__name__)


class CSVToKafkaProcessor:
    """Loads one S3 object into partition 0 of a topic. The checkpoint table is the only authority on what was sent.

    `total_lines` is only for progress and ETA in rows: unknown, they come from bytes, without a pass over the file.
    """

    def __init__(
        self,
        s3_bucket: str,
        s3_key: str,
        kafka_bootstrap_servers: str,
        kafka_topic: str,
        checkpoint_manager: CheckpointManager,
        metrics_emitter: MetricsEmitter | None = None,
        checkpoint_interval: int | None = None,
        total_lines: int | None = None,
    ) -> None:
        self.source = f"s3://{s3_bucket}/{s3_key}"
        self.kafka_bootstrap_servers = kafka_bootstrap_servers
        self.kafka_topic = kafka_topic
        self.checkpoint_manager = checkpoint_manager
        self.metrics_emitter = metrics_emitter
        self.checkpoint_interval = checkpoint_interval
        self.total_lines = total_lines
        self.start_time = time.time()
        self._stop = threading.Event()

    def process(self) -> Receipt:
        """Load the object from where the job stands; blocks until done or `stop`. Raises Csv2KafkaError."""
        self.start_time = time.time()
        parts = jobs.Parts(
            open_source=smart_open,
            sender_factory=KafkaProducer,
            store=self.checkpoint_manager,
            store_is_only_authority=True,
            rows_total=self.total_lines,
            sinks=(self.metrics_emitter,) if self.metrics_emitter else (),
        )
        try:
            settings = checked_run(
                kafka={"bootstrap": self.kafka_bootstrap_servers},
                source=self.source,
                topic=self.kafka_topic,
                job_id=self.checkpoint_manager.job_id,
                partition=0,
                checkpoint_interval_rows=self.checkpoint_interval,
            )
            return jobs.load(settings, parts, stop=self._stop, notify=_LOG.info)
        except Csv2KafkaError:
            if self.metrics_emitter:
                self.metrics_emitter.emit_error()
            raise
        finally:
            if self.metrics_emitter:
                self.metrics_emitter.close()

    def stop(self) -> None:
        """From another thread or a signal handler: have `process` flush, checkpoint and return."""
        self._stop.set()

    def _calculate_eta(self, records_processed: int) -> float:
        """Seconds left at the mean rate since `start_time`, 0 while that is unknown."""
        return eta_s(records_processed, self.total_lines, time.time() - self.start_time) or 0.0

    def _get_total_lines(self) -> int:
        """The object's number of lines, from the table or by counting them once (a pass over the whole object).

        Of a compressed object they say nothing.
        """
        key = {"job_id": total_lines_key(self.checkpoint_manager.job_id)}
        table = self.checkpoint_manager.table
        try:
            cached = table.get_item(Key=key).get("Item", {}).get("total_lines")
        except Exception as error:  # noqa: BLE001 - a cache that cannot be read must not stop anybody
            _LOG.warning("the cached number of lines cannot be read, counting: %s", error)
            cached = None
        if cached is not None:
            return int(str(cached))
        with smart_open(self.source) as lines:
            total = sum(1 for _ in lines)
        try:
            table.put_item(Item={**key, "total_lines": total})
        except Exception as error:  # noqa: BLE001 - counted all the same
            _LOG.warning("the number of lines cannot be cached: %s", error)
        return total
