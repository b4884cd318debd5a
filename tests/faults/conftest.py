"""One secured broker for all tests that come to it through other doors than the open one."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.secured_broker import SecuredBroker, secured_broker


@pytest.fixture(scope="session")
def secured(tmp_path_factory: pytest.TempPathFactory, kafka_version: str) -> Iterator[SecuredBroker]:
    with secured_broker(tmp_path_factory.mktemp("secured"), kafka_version) as running:
        yield running
