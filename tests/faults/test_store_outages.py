"""DynamoDB away for longer than a lease lives: sending pauses, and the load goes on or stops, exactly.

All slow: a lease lives for 10 s. Kafka is far away here, so that a load takes longer than that.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from csv2kafka.devbroker import Broker
from tests.support.admin import create_topic
from tests.support.cli_load import ROWS, CliLoad
from tests.support.far_broker import far_broker
from tests.support.http_proxy import HttpProxy
from tests.support.job_stores import DynamoTable
from tests.support.processes import Children
from tests.support.tcp_proxy import TcpProxy
from tests.support.until import until

pytestmark = [pytest.mark.integration, pytest.mark.kafka, pytest.mark.slow]

TRY_AGAIN = 75
LEASE_S = 10.0
PAUSED_S = 4.0  # nothing has come in for so long: far more than a round trip
ONE_WAY_S = 0.1

Start = Callable[..., CliLoad]


@pytest.fixture(scope="module")
def far(request: pytest.FixtureRequest) -> Iterator[tuple[Broker, TcpProxy, str]]:
    with far_broker(version=request.config.getoption("--kafka-version")) as (broker, proxy, bootstrap):
        yield broker, proxy, bootstrap


@pytest.fixture
def network(far: tuple[Broker, TcpProxy, str]) -> TcpProxy:
    """The way to Kafka, slow: some hundred batches take at least 20 s."""
    far[1].delay(up_s=ONE_WAY_S, down_s=ONE_WAY_S)
    return far[1]


@pytest.fixture
def table(dynamodb_local: str) -> Iterator[DynamoTable]:
    with HttpProxy(dynamodb_local) as proxy:
        yield DynamoTable(dynamodb_local, proxy)


@pytest.fixture
def load(
    far: tuple[Broker, TcpProxy, str], network: TcpProxy, table: DynamoTable, children: Children, tmp_path: Path
) -> CliLoad:
    topic = create_topic(far[0].bootstrap, config={"max.message.bytes": "5000"})
    return CliLoad(
        children, far[2], topic, tmp_path, checkpoint=table.url, env=table.env, oracle_bootstrap=far[0].bootstrap
    )


def until_it_sends(load: CliLoad) -> None:
    load.start()
    until(lambda: load.end() > 10, "rows come in")


def until_it_pauses(load: CliLoad) -> int:
    """Wait until no more rows come in; how many did."""
    seen, since_s = load.end(), time.monotonic()
    while time.monotonic() - since_s < PAUSED_S:
        end = load.end()
        if end != seen:
            seen, since_s = end, time.monotonic()
    sent = load.assert_prefix(at_least=1)
    assert sent < ROWS, "the load was over before the outage was noticed"
    return sent


def test_an_outage_longer_than_the_lease(load: CliLoad, table: DynamoTable, network: TcpProxy) -> None:
    until_it_sends(load)
    table.proxy.outage()
    began_s = time.monotonic()
    sent = until_it_pauses(load)
    before = table.item()
    until(lambda: time.monotonic() - began_s > 1.5 * LEASE_S, "the outage is longer than the lease")
    assert (load.assert_prefix(), table.item()) == (sent, before)
    network.delay(up_s=0, down_s=0)
    table.proxy.heal()
    ended = load.wait()
    assert ended.returncode == 0, ended
    assert "sending pauses until the checkpoint store says" in ended.stderr
    assert "sending goes on" in ended.stderr
    load.assert_exact()


def test_an_outage_that_does_not_end(load: CliLoad, table: DynamoTable, network: TcpProxy) -> None:
    """The run gives up after delivery.timeout.ms; the next one need not wait for the lease of a dead process."""
    load.options = ("-X", "delivery.timeout.ms=11000", "-X", "request.timeout.ms=11000")
    until_it_sends(load)
    table.proxy.outage()
    ended = load.wait()
    ended.assert_failed(TRY_AGAIN, "does not answer", "run the same command again")
    assert "the lease could not be given up" in ended.stderr
    assert 0 < load.assert_prefix(at_least=1) < ROWS
    assert table.item()["lease_owner"]
    network.delay(up_s=0, down_s=0)
    table.proxy.heal()
    load.assert_goes_on()


@pytest.mark.parametrize("wakes", ["mid way", "at the end"])
def test_an_outage_in_which_another_instance_takes_over(
    load: CliLoad, table: DynamoTable, network: TcpProxy, dynamodb_local: str, wakes: str
) -> None:
    """The one that the outage does not hit sees a lease that nobody renews, and takes it."""
    until_it_sends(load)
    first = load.process
    table.proxy.outage()
    sent = until_it_pauses(load)
    second = load.start(env={"AWS_ENDPOINT_URL": dynamodb_local})
    until(lambda: load.end() > sent + 10, "the other instance sends")
    if wakes == "at the end":
        network.delay(up_s=0, down_s=0)
        assert load.wait(second).returncode == 0
    table.proxy.heal()
    load.wait(first).assert_failed(TRY_AGAIN, "was taken away from this process", "nothing is lost")
    if wakes == "mid way":
        network.delay(up_s=0, down_s=0)
        assert load.wait(second).returncode == 0
    load.assert_exact()
