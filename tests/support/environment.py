"""An environment in which no option of csv2kafka is set, whatever the one of the test run holds."""

from __future__ import annotations

import os

import pytest

_OURS = ("CSV2KAFKA_", "KAFKA_", "S3_", "DYNAMODB_TABLE", "JOB_ID", "ENABLE_METRICS")


def clear_options(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in os.environ:
        if name.startswith(_OURS):
            monkeypatch.delenv(name)
