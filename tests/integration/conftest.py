"""What the end-to-end tests share: AWS in this process or behind an endpoint, and the plan's processor over it."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from moto import mock_aws

from csv2kafka.devbroker import Broker
from processor import CheckpointManager, CSVToKafkaProcessor
from tests.support import aws
from tests.support.aws import Aws

IN_PROCESS, SERVER = "in process", "server"
both_ways = pytest.mark.parametrize("aws_setup", [IN_PROCESS, SERVER], indirect=True)


@pytest.fixture
def aws_setup(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Aws]:
    """A bucket with 1000 rows in test.csv, and a checkpoint table: in this process unless a test asks for a server."""
    if getattr(request, "param", IN_PROCESS) == IN_PROCESS:
        with mock_aws():
            yield aws.set_up()
    else:
        monkeypatch.setenv("AWS_ENDPOINT_URL", request.getfixturevalue("moto_server"))
        yield aws.set_up()


@pytest.fixture
def checkpoint_mgr(aws_setup: Aws) -> CheckpointManager:
    return CheckpointManager(aws_setup.table.name, "test-job")


@pytest.fixture
def make(
    aws_setup: Aws, broker: Broker, topic: str, checkpoint_mgr: CheckpointManager
) -> Callable[..., CSVToKafkaProcessor]:
    """`make()` is the processor of test-job from test.csv into the test's topic; other arguments replace these."""

    def make(**changes: object) -> CSVToKafkaProcessor:
        arguments: dict[str, object] = {
            "s3_bucket": aws_setup.bucket,
            "s3_key": aws.KEY,
            "kafka_bootstrap_servers": broker.bootstrap,
            "kafka_topic": topic,
            "checkpoint_manager": checkpoint_mgr,
        }
        return CSVToKafkaProcessor(**{**arguments, **changes})  # type: ignore[arg-type]

    return make
