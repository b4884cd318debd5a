"""Reads topics with a client that shares no code with ours (librdkafka), so that it can be believed.

Only reading may live here. Checksums of batches are verified; control records never show.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Literal

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

PATIENCE_S = 30
NO_LEADER_YET = (
    KafkaError.LEADER_NOT_AVAILABLE,
    KafkaError.NOT_LEADER_FOR_PARTITION,
    KafkaError.OFFSET_NOT_AVAILABLE,  # elected a moment ago
    KafkaError._UNKNOWN_PARTITION,  # created, but not everywhere known yet
)

Isolation = Literal["read_uncommitted", "read_committed"]


def read_topic(
    bootstrap: str, topic: str, partition: int = 0, isolation: Isolation = "read_uncommitted"
) -> list[bytes]:
    """The values of all records, in order, from the partition's first to the last that stood there when called."""
    return list(iter_topic(bootstrap, topic, partition, isolation))


def iter_topic(
    bootstrap: str, topic: str, partition: int = 0, isolation: Isolation = "read_uncommitted"
) -> Iterator[bytes]:
    """As `read_topic`, in little memory."""
    for messages in iter_messages(bootstrap, topic, partition, isolation):
        for message in messages:
            yield message.value() or b""


def iter_messages(
    bootstrap: str, topic: str, partition: int = 0, isolation: Isolation = "read_uncommitted", start_offset: int = 0
) -> Iterator[list[Message]]:
    """Lists of up to 10,000 records with their offsets, keys, headers and timestamps; `iter_topic` has the values.

    Raises KafkaException when the topic is not there, the broker is gone for 30 s, or a record is damaged.
    """
    consumer = Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": "oracle",  # demanded, though a consumer with an assigned partition joins no group
            "isolation.level": isolation,
            "enable.auto.commit": False,
            "enable.partition.eof": True,
            "auto.offset.reset": "error",
            "check.crcs": True,
            "fetch.max.bytes": 64 << 20,
            "max.partition.fetch.bytes": 16 << 20,
            "queued.min.messages": 1_000_000,
            "queued.max.messages.kbytes": 128 << 10,
            "log_level": 0,
        }
    )
    try:
        first, end = _watermarks(consumer, topic, partition)
        consumer.assign([TopicPartition(topic, partition, max(first, start_offset))])
        deadline = time.monotonic() + PATIENCE_S
        while True:
            polled = consumer.consume(num_messages=10_000, timeout=0.05)  # waits until it has them all, or times out
            if polled:
                deadline = time.monotonic() + PATIENCE_S
            elif time.monotonic() > deadline:
                raise KafkaException(KafkaError(KafkaError._TIMED_OUT, f"nothing from {topic} for {PATIENCE_S} s"))
            records = [message for message in polled if message.error() is None and _offset(message) < end]
            if records:
                yield records
            # Only this event tells the end where control records or aborted batches are the last in the log.
            if any(_tells_end(message, end) for message in polled):
                return
    finally:
        consumer.close()


def _watermarks(consumer: Consumer, topic: str, partition: int) -> tuple[int, int]:
    """First and end offset, as soon as the partition has a leader: a restarted broker, or one that has just been
    told of a new topic, names itself as leader a little before it is.
    """
    deadline = time.monotonic() + PATIENCE_S
    while True:
        try:
            first, end = consumer.get_watermark_offsets(TopicPartition(topic, partition), timeout=PATIENCE_S)
            return first, end
        except KafkaException as error:
            if error.args[0].code() not in NO_LEADER_YET or time.monotonic() > deadline:
                raise
            time.sleep(0.02)


def _tells_end(message: Message, end: int) -> bool:
    error = message.error()
    if error is None:
        return _offset(message) >= end - 1
    if error.code() != KafkaError._PARTITION_EOF:
        raise KafkaException(error)
    return _offset(message) >= end


def _offset(message: Message) -> int:
    offset = message.offset()
    assert offset is not None
    return offset


def start_offset(bootstrap: str, topic: str, partition: int = 0) -> int:
    """The first offset that the partition still has; without records, the next one's."""
    return _range(bootstrap, topic, partition)[0]


def end_offset(bootstrap: str, topic: str, partition: int = 0) -> int:
    """The offset that the partition's next record will get; control records count."""
    return _range(bootstrap, topic, partition)[1]


def _range(bootstrap: str, topic: str, partition: int) -> tuple[int, int]:
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": "oracle", "log_level": 0})
    try:
        return _watermarks(consumer, topic, partition)
    finally:
        consumer.close()
