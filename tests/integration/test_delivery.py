"""The take-over and its guards against a real broker: what is refused, and what goes on exactly."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource  # type: ignore[attr-defined]

from csv2kafka import jobs, keeper, pipeline, recordbatch
from csv2kafka.checkpoints.sqlite import SqliteStore
from csv2kafka.clock import boottime_s
from csv2kafka.devbroker import Broker
from csv2kafka.errors import ConfigError, Fenced, JobConflict, KafkaUnavailable, TopicError
from csv2kafka.kafka import fence, guards, tail
from csv2kafka.kafka import topic as topics
from csv2kafka.kafka.client import Client
from csv2kafka.kafka.sender import Footing, Sender, TakeOverAgain
from csv2kafka.kafka_settings import KafkaSettings
from csv2kafka.model import Batch, Checkpoint, LogPosition
from csv2kafka.sources import Source, open_source
from tests.support.admin import create_topic
from tests.support.loads import Load, write_csv
from tests.support.oracle import end_offset, iter_messages, read_topic

pytestmark = [pytest.mark.integration, pytest.mark.kafka]

ROWS = 30_000
SMALL_BATCHES = {"max.message.bytes": "20000"}  # some fifty batches for the file


@pytest.fixture
def small(broker: Broker, make_topic: Callable[..., str], tmp_path: Path) -> tuple[Load, list[bytes]]:
    """A load of many small batches into a topic of its own, and the values that must come of it."""
    path = tmp_path / "data.csv"
    values = write_csv(path, ROWS)
    return Load(broker.bootstrap, path, make_topic(config=SMALL_BATCHES), tmp_path / "ck.db"), values


def assert_exact(load: Load, values: list[bytes]) -> None:
    for isolation in ("read_uncommitted", "read_committed"):
        assert read_topic(load.bootstrap, load.topic, isolation=isolation) == values  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def admin(broker: Broker) -> AdminClient:
    """Kept for the module: librdkafka abandons a request whose client is gone."""
    return AdminClient({"bootstrap.servers": broker.bootstrap, "log_level": 0})


def recreate(load: Load, admin: AdminClient) -> None:
    admin.delete_topics([load.topic])[load.topic].result(timeout=30)
    while True:  # deletion is asynchronous in the broker; creating fails until it is done
        try:
            create_topic(load.bootstrap, load.topic)
        except KafkaException:
            continue
        return


@pytest.mark.parametrize("saves", [1, 2])
def test_rows_behind_the_checkpoint_are_found_in_the_log(
    small: tuple[Load, list[bytes]], saves: int, caplog: pytest.LogCaptureFixture
) -> None:
    load, values = small
    load.die(batches=7, saves=saves)
    sent = end_offset(load.bootstrap, load.topic) - 1
    assert 0 < sent < ROWS
    with caplog.at_level(logging.INFO):
        receipt = load.run()
    assert f"{sent:,} rows behind the checkpoint were already in the topic" in caplog.text
    assert (receipt.resumed_at_row, receipt.rows, receipt.rows_this_run) == (sent, ROWS, ROWS - sent)
    assert_exact(load, values)


def test_dying_at_every_batch_leaves_an_exact_topic(small: tuple[Load, list[bytes]]) -> None:
    load, values = small
    for batches in (0, 1, 0, 3, 2):
        load.die(batches=batches, saves=2)
    load.run()
    assert_exact(load, values)


def test_a_superseded_instance_can_write_nothing_any_more(broker: Broker, topic: str) -> None:
    """Not at InitProducerId, but once the new marker is in the log; and its sequences do not matter."""
    settings = KafkaSettings(bootstrap=broker.bootstrap)
    records = recordbatch.compress(0, memoryview(b"\x12\x00\x00\x00\x01\x06abc\x00"))
    one = Batch(0, 1, 0, records, len(records))

    async def stand(client: Client, target: topics.Target) -> Sender:
        producer = await fence.new_epoch(client, "csv2kafka:zombie:test")
        _, end = await tail.log_range(client, target.partition)
        await fence.append_markers(client, "csv2kafka:zombie:test", producer, [target.partition])
        read = await tail.read_to_marker(client, target.partition, end, producer, ())
        return Sender(client, Footing(target.partition, producer, read.end_offset, read.timestamp_ms, boottime_s()))

    async def main() -> None:
        async with Client(settings) as client:
            (target,) = await topics.prepare(client, topic, None, create=False)
            zombie = await stand(client, target)
            await zombie.send(one)
            successor = await stand(client, target)
            with pytest.raises(Fenced):
                await zombie.send(one)
            await successor.send(one)

    asyncio.run(main())
    assert read_topic(broker.bootstrap, topic) == [b"abc", b"abc"]


def test_a_topic_made_again_and_filled_by_others_is_refused(
    small: tuple[Load, list[bytes]], admin: AdminClient
) -> None:
    load, _ = small
    load.die(batches=5, saves=2)
    recreate(load, admin)
    producer = Producer({"bootstrap.servers": load.bootstrap, "log_level": 0})
    for number in range(20_000):
        producer.produce(load.topic, b"%d" % number)
        producer.poll(0)
    producer.flush(30)
    with pytest.raises(JobConflict, match="topic id"):
        load.run()
    assert len(read_topic(load.bootstrap, load.topic)) == 20_000


def test_a_purged_tail_is_refused(small: tuple[Load, list[bytes]], admin: AdminClient) -> None:
    load, _ = small
    load.die(batches=5, saves=2)
    place = TopicPartition(load.topic, 0, end_offset(load.bootstrap, load.topic))
    admin.delete_records([place])[place].result(timeout=30)
    with pytest.raises(JobConflict, match="purged"):
        load.run()


def test_another_files_rows_behind_the_checkpoint_are_refused(small: tuple[Load, list[bytes]]) -> None:
    """The source's identity is the same, its bytes are not: only the comparison with the log can tell."""
    load, _ = small
    load.die(batches=5, saves=2)
    stat = load.path.stat()
    text = load.path.read_text(encoding="utf-8")
    load.path.write_text(text.replace("name ", "nome "), encoding="utf-8")  # in the rows, not in the header
    os.utime(load.path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    with pytest.raises(JobConflict, match="are not rows"):
        load.run()


def test_a_lost_checkpoint_is_refused_until_the_job_is_reset(small: tuple[Load, list[bytes]]) -> None:
    load, values = small
    load.die(batches=5, saves=2)
    sent = end_offset(load.bootstrap, load.topic) - 1
    load.checkpoints.unlink()
    for _ in range(2):  # the refusal itself must not make the job look begun
        with pytest.raises(JobConflict, match="its checkpoint is gone") as refused:
            load.run()
        assert "csv2kafka reset job" in refused.value.hint
    jobs.reset(f"sqlite:///{load.checkpoints}", "job")
    load.run()
    assert read_topic(load.bootstrap, load.topic) == values[:sent] + values


def test_a_store_that_is_the_only_authority_begins_again(
    small: tuple[Load, list[bytes]], caplog: pytest.LogCaptureFixture
) -> None:
    load, values = small
    load.die(batches=5, saves=2)
    load.checkpoints.unlink()
    load.run(jobs.Parts(store=SqliteStore(load.checkpoints), store_is_only_authority=True))
    assert "beginning at row 1" in caplog.text
    assert read_topic(load.bootstrap, load.topic)[-ROWS:] == values


def test_other_producers_are_reported_and_left_alone(
    small: tuple[Load, list[bytes]], caplog: pytest.LogCaptureFixture
) -> None:
    load, values = small
    load.die(batches=5, saves=2)
    producer = Producer({"bootstrap.servers": load.bootstrap, "log_level": 0})
    producer.produce(load.topic, b"foreign")
    producer.flush(30)
    load.run()
    assert "other programs write to" in caplog.text
    found = read_topic(load.bootstrap, load.topic)
    assert found.count(b"foreign") == 1
    assert [value for value in found if value != b"foreign"] == values


def test_a_limit_lowered_while_the_job_runs_stops_it_without_a_gap(
    small: tuple[Load, list[bytes]], admin: AdminClient
) -> None:
    load, values = small

    class LoweringSender(Sender):
        given = 0

        def can_send(self, batch: Batch) -> bool:
            LoweringSender.given += 1
            if LoweringSender.given == 5:
                lower = ConfigEntry("max.message.bytes", "5000", incremental_operation=AlterConfigOpType.SET)
                resource = ConfigResource(ConfigResource.Type.TOPIC, load.topic, incremental_configs=[lower])
                admin.incremental_alter_configs([resource])[resource].result(timeout=30)
            return super().can_send(batch)

    with pytest.raises(TopicError, match="too large"):
        load.run(jobs.Parts(store=SqliteStore(load.checkpoints), sender_factory=LoweringSender))
    found = read_topic(load.bootstrap, load.topic)
    assert found == values[: len(found)]
    load.run()
    assert_exact(load, values)


def test_an_epoch_that_is_used_up_is_renewed_in_place(small: tuple[Load, list[bytes]]) -> None:
    load, values = small

    class ShortLivedSender(Sender):
        given = 0

        def can_send(self, batch: Batch) -> bool:
            self.given += 1
            return self.given <= 20 and super().can_send(batch)

    receipt = load.run(jobs.Parts(store=SqliteStore(load.checkpoints), sender_factory=ShortLivedSender))
    assert receipt.takeovers > 1
    assert_exact(load, values)


def test_a_compacted_topic_is_refused(broker: Broker, make_topic: Callable[..., str], tmp_path: Path) -> None:
    write_csv(tmp_path / "a.csv", 5)
    compacted = make_topic(config={"cleanup.policy": "compact"})
    with pytest.raises(TopicError, match="compacted"):
        Load(broker.bootstrap, tmp_path / "a.csv", compacted, tmp_path / "ck.db").run()
    assert end_offset(broker.bootstrap, compacted) == 0


def test_several_partitions_need_a_choice(broker: Broker, make_topic: Callable[..., str], tmp_path: Path) -> None:
    values = write_csv(tmp_path / "a.csv", 5)
    name = make_topic(partitions=3)
    load = Load(broker.bootstrap, tmp_path / "a.csv", name, tmp_path / "ck.db")
    with pytest.raises(TopicError, match="3 partitions"):
        load.run()
    with pytest.raises(TopicError, match="no partition 3"):
        load.run(partition=3)
    load.run(partition=2)
    assert read_topic(broker.bootstrap, name, 2) == values


def test_a_missing_topic_is_made_only_by_us_and_only_when_allowed(
    broker: Broker, admin: AdminClient, tmp_path: Path
) -> None:
    """The broker would make it for any metadata request that does not say no."""
    values = write_csv(tmp_path / "a.csv", 5)
    load = Load(broker.bootstrap, tmp_path / "a.csv", f"never-{tmp_path.name}", tmp_path / "ck.db")
    with pytest.raises(TopicError, match="does not exist"):
        load.run(create_topic=False)
    assert load.topic not in admin.list_topics(timeout=10).topics
    load.run()
    assert len(admin.list_topics(timeout=10).topics[load.topic].partitions) == 1
    assert_exact(load, values)


def test_other_options_for_the_records_are_refused(small: tuple[Load, list[bytes]]) -> None:
    load, _ = small
    load.die(batches=5, saves=2)
    with pytest.raises(JobConflict, match=r"delimiter: ',' then, ';' now"):
        load.run(delimiter=";")


def test_records_carry_the_brokers_time(small: tuple[Load, list[bytes]]) -> None:
    load, _ = small
    load.run()
    stamps = [m.timestamp()[1] for page in iter_messages(load.bootstrap, load.topic) for m in page]
    assert len(stamps) == ROWS
    assert stamps == sorted(stamps)


def test_a_bug_while_reading_ends_the_run(small: tuple[Load, list[bytes]]) -> None:
    load, _ = small

    def open_broken(*arguments: Any, **options: Any) -> Source:
        source = open_source(*arguments, **options)
        read_from = source.read_from

        def broken(offset_bytes: int) -> Generator[bytes, None, None]:
            if offset_bytes:  # behind the header
                raise RuntimeError("a bug")
            yield from read_from(offset_bytes)

        source.read_from = broken  # type: ignore[method-assign]
        return source

    with pytest.raises(RuntimeError, match="a bug"):
        load.run(jobs.Parts(store=SqliteStore(load.checkpoints), open_source=open_broken))


def test_no_broker_is_a_clear_error(tmp_path: Path) -> None:
    write_csv(tmp_path / "a.csv", 5)
    with pytest.raises(KafkaUnavailable, match=r"no broker answers at 127\.0\.0\.1:1"):
        Load("127.0.0.1:1", tmp_path / "a.csv", "t", tmp_path / "ck.db").run()


def test_a_broker_killed_and_restarted_mid_load(tmp_path: Path, kafka_version: str) -> None:
    values = write_csv(tmp_path / "a.csv", ROWS)
    with Broker(version=kafka_version) as own:
        name = create_topic(own.bootstrap, config=SMALL_BATCHES)

        class RestartingSender(Sender):
            given = 0

            def can_send(self, batch: Batch) -> bool:
                RestartingSender.given += 1
                if RestartingSender.given == 9:
                    own.kill()
                    own.restart()
                return super().can_send(batch)

        load = Load(own.bootstrap, tmp_path / "a.csv", name, tmp_path / "ck.db")
        receipt = load.run(jobs.Parts(store=SqliteStore(load.checkpoints), sender_factory=RestartingSender))
        assert receipt.rows == ROWS
        assert_exact(load, values)


def test_an_exhausted_epoch_is_refused() -> None:
    log = LogPosition("c", (), (7,))
    with pytest.raises(ConfigError, match="epoch 32000"):
        guards.known_producer(log, fence.ProducerEpoch(7, 32_000), accept_new=False)
    with pytest.raises(JobConflict, match="new producer id"):
        guards.known_producer(log, fence.ProducerEpoch(8, 0), accept_new=False)
    guards.known_producer(log, fence.ProducerEpoch(8, 0), accept_new=True)


def test_failures_that_no_take_over_cures_end_with_try_again(
    small: tuple[Load, list[bytes]], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    load, values = small
    monkeypatch.setattr(pipeline, "pause_before_takeover_s", lambda _: 0.0)

    class RefusedSender(Sender):
        given_rows = 0

        def can_send(self, batch: Batch) -> bool:
            RefusedSender.given_rows += batch.rows
            if RefusedSender.given_rows > ROWS / 2:
                raise TakeOverAgain("refused")
            return super().can_send(batch)

    with pytest.raises(TakeOverAgain) as given_up:
        load.run(jobs.Parts(store=SqliteStore(load.checkpoints), sender_factory=RefusedSender))
    assert given_up.value.exit_code == 75
    takeovers = caplog.text.count("taking the partition over again: refused")
    assert pipeline.MAX_IN_VAIN < takeovers <= pipeline.MAX_IN_VAIN + 2  # the first, and one that finds its last batch
    found = read_topic(load.bootstrap, load.topic)
    assert found == values[: len(found)]
    assert len(found) > ROWS / 4
    load.run()
    assert_exact(load, values)


def test_a_fenced_instance_asks_whose_the_lease_is_first(
    small: tuple[Load, list[bytes]], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Kafka says that a newer instance writes; taking over again without a lease would fence that one off."""
    load, _ = small
    monkeypatch.setattr(keeper, "SAVE_EVERY_S", 3600)  # or the next save might say it before

    class LostStore(SqliteStore):
        is_lost = False

        def save(self, checkpoint: Checkpoint) -> None:
            if self.is_lost:
                raise Fenced("the lease is another's")
            super().save(checkpoint)

    class FencedSender(Sender):
        given = 0

        def can_send(self, batch: Batch) -> bool:
            self.given += 1
            if self.given > 3:
                LostStore.is_lost = True
                raise Fenced("a newer instance writes")
            return super().can_send(batch)

    with pytest.raises(Fenced, match="the lease is another's"):
        load.run(jobs.Parts(store=LostStore(load.checkpoints), sender_factory=FencedSender))
    assert "taking the partition over again" not in caplog.text


def test_each_take_over_in_vain_makes_the_next_wait_longer() -> None:
    pauses = [pipeline.pause_before_takeover_s(in_vain) for in_vain in range(7)]
    assert pauses == [1, 2, 4, 8, 16, 30, 30]
