"""The plan's calls of CheckpointManager against a mocked boto3: one request each, items in the plan's shape."""

from __future__ import annotations

from collections.abc import Iterator
from unittest.mock import Mock, patch

import numpy
import pytest

from processor import CheckpointManager


class TestCheckpointManager:
    @pytest.fixture
    def mock_dynamodb(self) -> Iterator[Mock]:
        with patch("boto3.resource") as resource:
            yield resource

    @pytest.fixture
    def table(self, mock_dynamodb: Mock) -> Mock:
        table: Mock = mock_dynamodb.return_value.Table.return_value
        return table

    def test_get_last_processed_line_exists(self, table: Mock) -> None:
        table.get_item.return_value = {"Item": {"job_id": "test-job", "last_line": 5000}}

        assert CheckpointManager("test-table", "test-job").get_last_processed_line() == 5000

        table.get_item.assert_called_once()
        assert table.get_item.call_args[1]["Key"] == {"job_id": "test-job"}
        assert table.get_item.call_args[1]["ConsistentRead"] is True

    def test_get_last_processed_line_not_exists(self, table: Mock) -> None:
        table.get_item.return_value = {}

        assert CheckpointManager("test-table", "test-job").get_last_processed_line() == 0

    def test_update_checkpoint(self, table: Mock) -> None:
        CheckpointManager("test-table", "test-job").update_checkpoint(10000, 9999)

        table.put_item.assert_called_once()
        item = table.put_item.call_args[1]["Item"]
        assert item.pop("timestamp").endswith("+00:00")
        assert item == {
            "job_id": "test-job",
            "status": "IN_PROGRESS",
            "last_line": 10000,
            "total_sent": 9999,
        }
        assert "ConditionExpression" in table.put_item.call_args[1]

    def test_mark_complete(self, table: Mock) -> None:
        CheckpointManager("test-table", "test-job").mark_complete(100000)

        table.put_item.assert_called_once()
        item = table.put_item.call_args[1]["Item"]
        assert item["status"] == "COMPLETED"
        assert item["last_line"] == 100000
        assert item["total_sent"] == 100000

    def test_numpy_counts_are_stored_as_plain_numbers(self, table: Mock) -> None:
        CheckpointManager("test-table", "test-job").update_checkpoint(numpy.int64(7), numpy.int64(7))  # type: ignore[arg-type]

        assert type(table.put_item.call_args[1]["Item"]["last_line"]) is int

    def test_the_table_named_is_the_table_used(self, mock_dynamodb: Mock) -> None:
        CheckpointManager("test-table", "test-job")

        assert mock_dynamodb.call_args[0] == ("dynamodb",)
        mock_dynamodb.return_value.Table.assert_called_once_with("test-table")

    def test_a_stand_in_made_from_the_class_has_its_attributes(self) -> None:
        stand_in = Mock(spec=CheckpointManager)

        stand_in.table.get_item.return_value = {"Item": {"total_lines": 1}}
        assert stand_in.table.get_item()["Item"]["total_lines"] == 1
        assert stand_in.job_id is not None
