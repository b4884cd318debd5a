"""Two instances of one job: started at once, one loads; one that stood still and was replaced writes nothing more."""

from __future__ import annotations

import re
import signal
import socket
import subprocess
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import boto3
import pytest

from csv2kafka.devbroker import Broker
from csv2kafka.failpoints import PIPELINE_STEPS, TAKEOVER_STEPS
from tests.support.cli_load import SMALL_BATCHES, CliLoad
from tests.support.http_proxy import HttpProxy, Request, held
from tests.support.job_stores import DynamoTable, JobStore, SqliteFile
from tests.support.processes import Children
from tests.support.until import until

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

pytestmark = [pytest.mark.integration, pytest.mark.kafka]

TRY_AGAIN = 75
each_store = pytest.mark.parametrize("store", ["sqlite", "dynamodb"], indirect=True)


@pytest.fixture
def store(request: pytest.FixtureRequest, dynamodb_local: str, tmp_path: Path) -> Iterator[JobStore]:
    if request.param == "sqlite":
        yield SqliteFile(tmp_path)
        return
    with HttpProxy(dynamodb_local) as proxy:
        yield DynamoTable(dynamodb_local, proxy)


@pytest.fixture
def load(
    broker: Broker, make_topic: Callable[..., str], children: Children, tmp_path: Path, store: JobStore
) -> CliLoad:
    topic = make_topic(config=SMALL_BATCHES)
    return CliLoad(children, broker.bootstrap, topic, tmp_path, checkpoint=store.url, env=store.env)


@pytest.fixture
def s3(moto_server: str) -> Iterator[tuple[S3Client, HttpProxy]]:
    """A client of the server, and a proxy before it."""
    with HttpProxy(moto_server) as proxy:
        yield boto3.client("s3", endpoint_url=moto_server), proxy


def assert_held_by(load: CliLoad, process: subprocess.Popen[str], ended_process: subprocess.Popen[str]) -> None:
    """The one that ended was told who holds the job, where, and since when."""
    ended = load.wait(ended_process)
    ended.assert_failed(TRY_AGAIN, "job job is held by", "let that process finish")
    said = re.search(r"held by process (\d+) on (\S+), since 20\d\d-\d\d-\d\dT", str(ended.receipt["error"]))
    assert said, ended
    assert said.groups() == (str(process.pid), socket.gethostname())


@each_store
def test_of_two_starts_at_once_one_loads(load: CliLoad, s3: tuple[S3Client, HttpProxy]) -> None:
    """The rows are kept back until the other one has given up: a winner that is done already would let it in."""
    client, proxy = s3
    bucket = f"bucket-{uuid.uuid4().hex[:12]}"
    client.create_bucket(Bucket=bucket)
    client.put_object(Bucket=bucket, Key="data.csv", Body=load.path.read_bytes())
    load.source = f"s3://{bucket}/data.csv"
    load.env["AWS_ENDPOINT_URL_S3"] = proxy.url

    def asks_for_rows(request: Request) -> bool:
        return request.operation == "GetObject" and not request.headers["range"].startswith("bytes=0-")

    proxy.next(held(), when=asks_for_rows)
    both = [load.start(), load.start()]
    loser = until(lambda: next((one for one in both if one.poll() is not None), None), "one of two ends")
    winner = next(one for one in both if one is not loser)
    assert_held_by(load, winner, loser)
    proxy.wait_for(lambda: proxy.played["held"] == 1)
    assert load.assert_prefix() == 0
    proxy.release()
    ended = load.wait(winner)
    assert (ended.returncode, ended.receipt["rows"]) == (0, len(load.values)), ended
    load.assert_exact()


@pytest.mark.parametrize("store", ["sqlite"], indirect=True)
def test_one_that_stands_still_keeps_its_file_lock(load: CliLoad) -> None:
    """The kernel knows that it lives, however long it does nothing."""
    with load.paused_at("batch_acked", 5) as first:
        assert_held_by(load, first, load.start())
    ended = load.wait(first)
    assert ended.returncode == 0, ended
    load.assert_exact()


# Where the first one stands still: at the how manieth coming to a step that it will certainly come to so often, before
# it is done (its two first saves are the take-over's).
STEPS = {
    **dict.fromkeys(TAKEOVER_STEPS, 1),
    **dict.fromkeys(PIPELINE_STEPS, 3),
    "checkpoint_saving": 2,
    "checkpoint_saved": 2,
    "all_acked": 1,
}
del STEPS["job_completed"]
QUICK_STEPS = {"epoch_started", "partition_added", "batch_sent", "batch_acked", "all_acked"}


@pytest.mark.parametrize("store", ["sqlite"], indirect=True)
@pytest.mark.parametrize("step", [s if s in QUICK_STEPS else pytest.param(s, marks=pytest.mark.slow) for s in STEPS])
def test_one_that_wakes_up_after_a_take_over(load: CliLoad, store: JobStore, step: str) -> None:
    """Slow only because there are so many steps. The first wakes when the second has just fenced it off."""
    with load.paused_at(step, STEPS[step]) as first:
        store.depose()
        with load.paused_at("takeover_saved") as second:
            first.send_signal(signal.SIGCONT)
            replaced = load.wait(first)
            replaced.assert_failed(TRY_AGAIN, "was taken away from this process")
            assert "taking the partition over again" not in replaced.stderr, "whose the lease is comes first"
    ended = load.wait(second)
    assert ended.returncode == 0, ended
    assert ended.receipt["takeovers"] == 1, "the first must not have fenced the second off in its turn"
    load.assert_exact()


@pytest.mark.slow
@pytest.mark.parametrize("store", ["dynamodb"], indirect=True)
@pytest.mark.parametrize("step", ["batch_sent", "checkpoint_saving"])
def test_one_that_wakes_up_when_its_lease_was_taken_and_all_is_done(load: CliLoad, store: JobStore, step: str) -> None:
    """Slow because a taker waits for 10 s to see that the lease stands still."""
    with load.paused_at(step, 3) as first:
        second = load.start()
        assert load.wait(second).returncode == 0
        done, end = store.item(), load.end()
    load.wait(first).assert_failed(TRY_AGAIN, "was taken away from this process")
    assert (store.item(), load.end()) == (done, end)
    load.assert_exact()


@pytest.mark.parametrize("store", ["sqlite"], indirect=True)
def test_one_that_was_done_before_it_was_replaced(load: CliLoad, store: JobStore) -> None:
    """The second finds the job complete, and the first ends well."""
    with load.paused_at("job_completed") as first:
        store.depose()
        again = load.run()
        assert (again.returncode, again.receipt["status"]) == (0, "already complete"), again
    assert load.wait(first).returncode == 0
    load.assert_exact()
