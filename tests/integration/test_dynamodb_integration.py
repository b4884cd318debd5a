"""CheckpointManager against an in-process DynamoDB: the plan's workflow, and that one job's item is one job's."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import boto3
import pytest
from moto import mock_aws

from processor import CheckpointManager

if TYPE_CHECKING:
    from mypy_boto3_dynamodb.service_resource import Table


@mock_aws
@pytest.mark.integration
class TestDynamoDBIntegration:
    @pytest.fixture
    def dynamodb_setup(self) -> Iterator[Table]:
        # The class's decorator covers the tests alone; inside this one it neither ends the mock nor empties it.
        with mock_aws():
            yield boto3.resource("dynamodb", region_name="us-east-1").create_table(
                TableName="test-checkpoint",
                KeySchema=[{"AttributeName": "job_id", "KeyType": "HASH"}],
                AttributeDefinitions=[{"AttributeName": "job_id", "AttributeType": "S"}],
                BillingMode="PAY_PER_REQUEST",
            )

    def test_checkpoint_workflow(self, dynamodb_setup: Table) -> None:
        manager = CheckpointManager("test-checkpoint", "test-job-1")
        assert manager.get_last_processed_line() == 0
        assert dynamodb_setup.scan()["Items"] == []

        manager.update_checkpoint(5000, 5000)
        assert manager.get_last_processed_line() == 5000

        manager.update_checkpoint(10000, 10000)
        assert manager.get_last_processed_line() == 10000

        manager.mark_complete(10000)
        item = dynamodb_setup.get_item(Key={"job_id": "test-job-1"})["Item"]
        assert item["status"] == "COMPLETED"
        assert set(item) == {"job_id", "status", "last_line", "total_sent", "timestamp"}

    def test_jobs_do_not_see_each_other(self, dynamodb_setup: Table) -> None:
        CheckpointManager("test-checkpoint", "one").update_checkpoint(1, 1)
        CheckpointManager("test-checkpoint", "two").update_checkpoint(2, 2)

        assert CheckpointManager("test-checkpoint", "one").get_last_processed_line() == 1
        assert len(dynamodb_setup.scan()["Items"]) == 2
