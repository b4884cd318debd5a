"""Kafka itself, through kafka-python; and our sender's records, read by two clients that share no code with ours."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from kafka import KafkaConsumer, KafkaProducer, TopicPartition

from csv2kafka import recordbatch
from csv2kafka.clock import boottime_s
from csv2kafka.devbroker import Broker
from csv2kafka.encoder import Encoder
from csv2kafka.kafka import fence, tail
from csv2kafka.kafka import topic as topics
from csv2kafka.kafka.client import Client
from csv2kafka.kafka.sender import Footing, Sender
from csv2kafka.kafka_settings import KafkaSettings
from csv2kafka.model import Dialect, Position, RecordShape
from csv2kafka.splitter import read_header, split
from tests.support import csv_oracle
from tests.support.oracle import iter_messages, read_topic


@dataclass(frozen=True)
class KafkaConfig:
    bootstrap_servers: str
    topic: str


def consume(config: KafkaConfig, **options: Any) -> Iterator[Any]:
    """All records that are in the topic's partition 0 now, by kafka-python. Checksums are verified."""
    consumer = KafkaConsumer(
        bootstrap_servers=config.bootstrap_servers, auto_offset_reset="earliest", check_crcs=True, **options
    )
    try:
        place = TopicPartition(config.topic, 0)
        consumer.assign([place])
        end = consumer.end_offsets([place])[place]
        while consumer.position(place) < end:  # control records move the position, but are never handed out
            for records in consumer.poll(timeout_ms=100).values():
                yield from records
    finally:
        consumer.close()


async def send(config: KafkaConfig, codec: str, data: bytes) -> int:
    """A CSV through encoder and sender, as the pipeline does it; returns the number of batches."""
    dialect = Dialect()
    header = read_header([data], dialect)
    async with Client(KafkaSettings(bootstrap=config.bootstrap_servers)) as client:
        (target,) = await topics.prepare(client, config.topic, 0, create=False)
        txn_id = fence.transactional_id("kafka-integration", config.topic)
        producer = await fence.new_epoch(client, txn_id)
        await fence.append_markers(client, txn_id, producer, [target.partition])
        read = await tail.read_to_marker(client, target.partition, 0, producer, ())
        footing = Footing(target.partition, producer, read.end_offset, read.timestamp_ms, boottime_s())
        encoder = Encoder(RecordShape(header.columns), recordbatch.CODECS[codec], target.max_message_bytes)
        sender = Sender(client, footing)
        start = Position(0, header.end_byte)
        batches = [
            batch
            for block in split([data[header.end_byte :]], start, dialect, lambda: encoder.block_bytes)
            for portion in encoder.encode(block).portions
            for batch in portion.batches
        ]
        offsets = await asyncio.gather(*map(sender.send, batches))
        sender.close()
    assert offsets == sorted(offsets)
    return len(batches)


def dumps(value: dict[str, Any]) -> bytes:
    return json.dumps(value).encode()


@pytest.fixture(scope="module")
def rows() -> bytes:
    """Some 3 MB of rows, unlike enough to need several batches in every codec."""
    texts = (b"plain", b'"quoted ""text"", with a\nnewline"', "größe 日本 😀".encode(), b"", b"\\ \t \x01")
    return b"id,text,number\n" + b"".join(
        b"%d,%s,%d\n" % (number, texts[number % len(texts)], number * 2654435761 % 2**64) for number in range(60_000)
    )


@pytest.fixture(scope="module")
def expected(rows: bytes) -> list[bytes]:
    return list(csv_oracle.expect(rows).values)


@pytest.mark.integration
@pytest.mark.kafka
class TestKafkaIntegration:
    @pytest.fixture
    def kafka_config(self, broker: Broker, topic: str) -> KafkaConfig:
        return KafkaConfig(broker.bootstrap, topic)

    @pytest.fixture
    def make_producer(self, kafka_config: KafkaConfig) -> Iterator[Callable[..., Any]]:
        producers = []

        def make_producer(**options: Any) -> Any:
            producers.append(KafkaProducer(bootstrap_servers=kafka_config.bootstrap_servers, **options))
            return producers[-1]

        yield make_producer
        for producer in producers:
            producer.close()

    def test_send_and_receive(self, kafka_config: KafkaConfig, make_producer: Callable[..., Any]) -> None:
        test_data = {"id": 1, "name": "test", "value": 100}
        producer = make_producer()

        producer.send(kafka_config.topic, value=dumps(test_data))
        producer.flush()

        messages = list(consume(kafka_config))
        assert [json.loads(message.value) for message in messages] == [test_data]

    def test_ordering_guarantee(self, kafka_config: KafkaConfig, make_producer: Callable[..., Any]) -> None:
        producer = make_producer(max_in_flight_requests_per_connection=1)

        for number in range(100):
            producer.send(kafka_config.topic, value=dumps({"seq": number}), partition=0)
        producer.flush()

        messages = list(consume(kafka_config))
        assert [json.loads(message.value)["seq"] for message in messages] == list(range(100))
        assert [message.offset for message in messages] == list(range(100))

    @pytest.mark.parametrize("codec", recordbatch.CODECS)
    def test_every_client_reads_what_we_send_in_every_codec(
        self, kafka_config: KafkaConfig, codec: str, rows: bytes, expected: list[bytes]
    ) -> None:
        assert asyncio.run(send(kafka_config, codec, rows)) > 1

        by_kafka_python = list(consume(kafka_config, isolation_level="read_committed"))
        assert [message.value for message in by_kafka_python] == expected
        # One offset for each row, behind the marker that the take-over left at offset 0.
        assert [message.offset for message in by_kafka_python] == list(range(1, len(expected) + 1))
        assert {(message.key, tuple(message.headers)) for message in by_kafka_python} == {(None, ())}
        assert read_topic(kafka_config.bootstrap_servers, kafka_config.topic) == expected
        assert read_topic(kafka_config.bootstrap_servers, kafka_config.topic, isolation="read_committed") == expected

    @pytest.mark.parametrize("codec", recordbatch.CODECS)
    def test_both_clients_see_the_same_times_and_offsets(self, kafka_config: KafkaConfig, codec: str) -> None:
        asyncio.run(send(kafka_config, codec, b"id\n" + b"".join(b"%d\n" % number for number in range(1000))))

        by_kafka_python = [(message.offset, message.timestamp, message.value) for message in consume(kafka_config)]
        by_librdkafka = [
            (message.offset(), message.timestamp()[1], message.value())
            for messages in iter_messages(kafka_config.bootstrap_servers, kafka_config.topic)
            for message in messages
        ]
        assert by_kafka_python == by_librdkafka
        assert len(by_kafka_python) == 1000
