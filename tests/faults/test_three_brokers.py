"""Three brokers, of which some die, hang, restart or lose the partition under a load: the topic stays exact."""

from __future__ import annotations

import shutil
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import aws
from tests.support.cli_load import SMALL_BATCHES, CliLoad
from tests.support.cluster import IDS, Cluster
from tests.support.processes import Children

pytestmark = [pytest.mark.integration, pytest.mark.kafka, pytest.mark.slow]

REQUEST_TIMEOUT_S = 2
QUICK = ("-X", f"request.timeout.ms={REQUEST_TIMEOUT_S * 1000}")


@pytest.fixture(scope="module")
def running(kafka_version: str) -> Iterator[Cluster]:
    with Cluster(kafka_version) as cluster:
        yield cluster


@pytest.fixture
def cluster(running: Cluster) -> Iterator[Cluster]:
    yield running
    running.heal()


@pytest.fixture
def load(cluster: Cluster, children: Children, tmp_path: Path) -> CliLoad:
    """Into a topic whose leader does not coordinate transactions: the one can fail without the other."""
    leader = next(node_id for node_id in IDS if node_id != cluster.coordinator())
    return make_load(cluster, children, tmp_path, leader)


def make_load(cluster: Cluster, children: Children, folder: Path, leader: int) -> CliLoad:
    replicas = (leader, *(node_id for node_id in IDS if node_id != leader))
    return CliLoad(children, cluster.bootstrap, cluster.create_topic(replicas, SMALL_BATCHES), folder)


def others(node_id: int) -> tuple[int, ...]:
    return tuple(other for other in IDS if other != node_id)


def assert_ends_exact(load: CliLoad) -> None:
    ended = load.wait()
    assert ended.returncode == 0, ended
    load.assert_exact()


@pytest.mark.parametrize("step", ["batch_sending", "batch_sent", "batch_acked"])
def test_the_leader_is_killed(cluster: Cluster, load: CliLoad, step: str) -> None:
    leader = cluster.leader_of(load.topic)
    with load.paused_at(step, 10):
        cluster.kill(leader)
    assert_ends_exact(load)
    assert cluster.leader_of(load.topic) in others(leader)


def test_the_leader_dies_with_a_batch_that_nobody_else_has_yet(cluster: Cluster, load: CliLoad) -> None:
    """Its copies were asked for and may be on their way: the next leader has the batch, or never hears of it."""
    leader = cluster.leader_of(load.topic)
    pauses = load.pauses("batch_sending:10")
    process = next(pauses)
    cluster.pause(*others(leader))
    size_bytes = cluster.log_bytes(leader, load.topic)
    next(pauses, None)
    cluster.wait_for(lambda: cluster.log_bytes(leader, load.topic) > size_bytes, "the batch in the leader's log")
    process.send_signal(signal.SIGSTOP)
    cluster.kill(leader)
    cluster.resume(*others(leader))
    cluster.wait_for_leader(load.topic, other_than=leader)
    process.send_signal(signal.SIGCONT)
    assert_ends_exact(load)


@pytest.mark.parametrize("step", ["batch_sending", "batch_sent"])
def test_the_leader_hangs_is_superseded_and_wakes(cluster: Cluster, load: CliLoad, step: str) -> None:
    """Its connections stay open: only the request's timeout tells the loader."""
    leader = cluster.leader_of(load.topic)
    for number, _ in enumerate(load.pauses(f"{step}:10", "batch_acked:15", options=QUICK)):
        if number == 0:
            cluster.pause(leader)
            cluster.wait_for_leader(load.topic, other_than=leader)
        else:
            cluster.resume(leader)
    assert_ends_exact(load)


@pytest.mark.parametrize("hard", [False, True], ids=["stopped", "killed"])
def test_a_rolling_restart_of_all(cluster: Cluster, load: CliLoad, hard: bool) -> None:
    """Each broker is down while five batches are sent; the next one follows when all replicas are in sync again."""
    down: set[int] = set()
    steps = [f"batch_acked:{number}" for number in (3, 8, 13, 18)]
    for _, next_down in zip(load.pauses(*steps), (*IDS, None), strict=True):
        cluster.start(*down)
        cluster.wait_until_in_sync()
        down = {next_down} if next_down else set()
        (cluster.kill if hard else cluster.stop)(*down)
    assert_ends_exact(load)


@pytest.mark.parametrize("hanging", [False, True], ids=["killed", "hanging"])
def test_too_few_replicas_in_sync_are_waited_for(cluster: Cluster, load: CliLoad, hanging: bool) -> None:
    leader = cluster.leader_of(load.topic)
    ends = []
    # What is sent after the tenth answer cannot be answered any more: the later number counts repeats of it.
    for number, _ in enumerate(load.pauses("batch_acked:10", "batch_sending:18", options=QUICK)):
        if number == 0:
            (cluster.pause if hanging else cluster.kill)(*others(leader))
            cluster.wait_for(lambda: cluster.in_sync(load.topic) == {leader}, "too few replicas")
        ends.append(load.end())
    assert ends[0] == ends[1]
    assert load.process is not None
    assert load.process.poll() is None
    cluster.heal()
    assert_ends_exact(load)


def test_too_few_replicas_for_too_long_end_the_run(cluster: Cluster, load: CliLoad) -> None:
    leader = cluster.leader_of(load.topic)
    with load.paused_at("batch_acked", 10, *QUICK, "-X", "delivery.timeout.ms=4000"):
        cluster.kill(*others(leader))
        cluster.wait_for(lambda: cluster.in_sync(load.topic) == {leader}, "too few replicas")
    ended = load.wait()
    assert ended.returncode == 75
    assert "NotEnoughReplicas" in str(ended.receipt["error"])
    assert "run the same command again" in str(ended.receipt["hint"])
    cluster.heal()
    load.assert_prefix(at_least=1)
    load.assert_goes_on()


@pytest.mark.parametrize("everything", [False, True], ids=["its replicas", "all brokers"])
def test_no_leader_for_longer_than_a_request_may_take(
    cluster: Cluster, children: Children, tmp_path: Path, everything: bool
) -> None:
    """Without its replicas the partition has no leader, which the third broker says; without any, nobody says so."""
    replicas = others(cluster.coordinator())
    load = CliLoad(children, cluster.bootstrap, cluster.create_topic(replicas, SMALL_BATCHES), tmp_path)
    killed_s = 0.0
    for number, _ in enumerate(load.pauses("batch_sending:10", "batch_sending:20", options=QUICK)):
        if number == 0:
            cluster.kill(*(IDS if everything else replicas))
            killed_s = time.monotonic()
        else:
            assert time.monotonic() - killed_s > REQUEST_TIMEOUT_S
            assert everything or cluster.view(load.topic)[load.topic].leader == -1
    cluster.heal()
    assert_ends_exact(load)


@pytest.mark.parametrize("leads", [False, True], ids=["", "and leader"])
@pytest.mark.parametrize("step", ["lease_taken", "epoch_started", "epoch_saved", "partition_added", "marker_asked"])
def test_the_coordinator_is_killed_during_a_take_over(
    cluster: Cluster, children: Children, tmp_path: Path, step: str, leads: bool
) -> None:
    """With rows behind the checkpoint that only the log knows of."""
    coordinator = cluster.coordinator()
    load = make_load(cluster, children, tmp_path, coordinator if leads else others(coordinator)[0])
    load.crash_at("batch_acked", 20)
    load.assert_prefix(at_least=1)
    with load.paused_at(step):
        cluster.kill(coordinator)
    assert_ends_exact(load)
    assert cluster.coordinator() in others(coordinator)


def test_no_coordinator_for_too_long_ends_the_run(cluster: Cluster, load: CliLoad) -> None:
    """Where the partition itself could be written to."""
    coordinator = cluster.coordinator()
    load.crash_at("batch_acked", 20)
    before = load.assert_prefix(at_least=1)
    topic_leader = cluster.leader_of(load.topic)
    cluster.kill(*others(topic_leader))
    assert coordinator != topic_leader
    ended = load.run(*QUICK, "-X", "delivery.timeout.ms=4000")
    assert ended.returncode == 75
    assert "csv2kafka:job:" in str(ended.receipt["error"])
    assert "run the same command again" in str(ended.receipt["hint"])
    cluster.heal()
    assert load.assert_prefix() == before
    load.assert_goes_on()


MOVES = ["killed", "stopped", "fresh replica"]


def load_to_be_moved(cluster: Cluster, children: Children, folder: Path, how: str) -> CliLoad:
    leader, other, spare = IDS
    replicas = (leader, other) if how == "fresh replica" else (leader, other, spare)
    return CliLoad(children, cluster.bootstrap, cluster.create_topic(replicas, SMALL_BATCHES), folder)


def move_leader(cluster: Cluster, topic: str, how: str) -> None:
    leader, other, spare = IDS
    if how == "fresh replica":  # which has never seen anything of the topic
        cluster.move(topic, [spare, other])
    else:
        (cluster.kill if how == "killed" else cluster.stop)(leader)
        cluster.wait_for_leader(topic, other_than=leader)


@pytest.mark.parametrize("how", MOVES)
def test_a_zombie_is_fenced_by_a_new_leader(cluster: Cluster, children: Children, tmp_path: Path, how: str) -> None:
    """The fence alone: with a checkpoint file copied behind its back, the zombie believes that it holds the lease.

    Its successor was killed, too, so nobody is left to say so. Fenced, the zombie takes the partition over.
    """
    load = load_to_be_moved(cluster, children, tmp_path, how)
    zombie = next(load.pauses("batch_sending:20"))
    for file in tmp_path.glob("checkpoints.db*"):
        shutil.copy(file, tmp_path / file.name.replace("checkpoints", "copy"))
    original, load.checkpoint = load.checkpoint, f"sqlite:///{tmp_path / 'copy.db'}"
    load.crash_at("batch_acked", 3)
    load.assert_prefix(at_least=1)
    move_leader(cluster, load.topic, how)

    zombie.send_signal(signal.SIGCONT)
    ended = load.wait(zombie)
    assert ended.returncode == 0, ended
    assert "InvalidProducerEpoch (error 47)" in ended.stderr
    assert ended.receipt["takeovers"] == 2
    load.assert_exact()
    load.assert_goes_on()
    load.checkpoint = original
    load.assert_goes_on()


@pytest.mark.parametrize("how", MOVES)
def test_a_zombie_stops_though_its_successor_died_and_the_leader_moved(
    cluster: Cluster,
    children: Children,
    tmp_path: Path,
    how: str,
    moto_server: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", moto_server)
    load = load_to_be_moved(cluster, children, tmp_path, how)
    load.checkpoint = f"dynamodb://{aws.set_up().table.name}"
    zombie = next(load.pauses("batch_sending:20"))
    load.crash_at("takeover_saved")
    before = load.assert_prefix(at_least=1)
    move_leader(cluster, load.topic, how)

    zombie.send_signal(signal.SIGCONT)
    ended = load.wait(zombie)
    assert ended.returncode == 75, ended
    assert "was taken away from this process" in str(ended.receipt["error"])
    assert load.assert_prefix() == before
    load.assert_goes_on()
