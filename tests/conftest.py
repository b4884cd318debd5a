"""Markers and fixtures of all tests: one real broker and one AWS server for the whole run, children that end."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from csv2kafka.devbroker import KAFKA_VERSION, Broker
from tests.support.admin import create_topic
from tests.support.dynamodb_local import serving_dynamodb
from tests.support.processes import Children

MARKERS = {
    "integration": "several parts together, with a real broker or AWS server",
    "e2e": "the whole way from a CSV to the topic",
    "performance": "measures the real program; the only tests that depend on time",
    "slow": "a fault that takes more than a few seconds: run by ./dev faults, not by ./dev test",
    "kafka": "needs a Kafka broker, which the tests start themselves",
}


def pytest_configure(config: pytest.Config) -> None:
    for name, meaning in MARKERS.items():
        config.addinivalue_line("markers", f"{name}: {meaning}")


@pytest.fixture(scope="session", autouse=True)
def aws_credentials() -> Iterator[None]:
    """Credentials that no AWS account knows, for every test, so that none can ever reach a real one."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SECURITY_TOKEN", "AWS_SESSION_TOKEN"):
            patch.setenv(name, "testing")
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        patch.setenv("CSV2KAFKA_LOG_FORMAT", "text")  # as on a terminal; test_logs.py has the other one
        patch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        for name in ("AWS_PROFILE", "AWS_ENDPOINT_URL", "AWS_REGION"):
            patch.delenv(name, raising=False)
        yield


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--kafka-version", default=KAFKA_VERSION, help="of the run's Apache Kafka brokers")


@pytest.fixture(scope="session")
def kafka_version(pytestconfig: pytest.Config) -> str:
    """Of every broker that a test of the loader starts."""
    return str(pytestconfig.getoption("--kafka-version"))


@pytest.fixture(scope="session")
def broker(kafka_version: str) -> Iterator[Broker]:
    """The run's Kafka broker. A test that kills or pauses a broker starts one of its own."""
    with Broker(version=kafka_version) as running:
        yield running


@pytest.fixture
def make_topic(broker: Broker) -> Callable[..., str]:
    """`make_topic(partitions=1, config={...})` creates a topic and returns its name, one that no other test has."""
    return partial(create_topic, broker.bootstrap)


@pytest.fixture
def topic(make_topic: Callable[..., str]) -> str:
    """A new topic with one partition."""
    return make_topic()


@pytest.fixture(scope="session")
def moto_server() -> Iterator[str]:
    """The URL of an AWS server for endpoint_url or AWS_ENDPOINT_URL; tests name buckets and tables uniquely."""
    children = Children()
    script = Path(__file__).parent / "support" / "moto_process.py"
    server = children.start([sys.executable, str(script)], stdin=subprocess.PIPE)
    try:
        assert server.stdout is not None
        url = server.stdout.readline().strip()
        assert url, "the moto server did not start"
        yield url
    finally:
        children.close()


@pytest.fixture(scope="session")
def dynamodb_local() -> Iterator[str]:
    """The URL of Amazon's own DynamoDBLocal; tests name tables uniquely."""
    with serving_dynamodb() as url:
        yield url


@pytest.fixture
def children(tmp_path: Path) -> Iterator[Children]:
    """Starts child processes, which end with the test. Their state folder is the test's own."""
    running = Children({"XDG_STATE_HOME": str(tmp_path / "state")})
    yield running
    running.close()


@pytest.fixture
def cli(children: Children) -> Callable[..., subprocess.CompletedProcess[str]]:
    """`cli("run", path, topic, ...)` runs the command to its end; `children.start_cli` runs it in the background."""
    return children.cli
