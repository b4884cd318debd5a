"""Requests that aiokafka does not have, or not in the version that carries what we need. Schemas only, no I/O.

Sources: Kafka's message definitions (clients/src/main/resources/common/message) and KIP-516 (topic ids).
"""

from __future__ import annotations

import base64
import struct
from collections.abc import Mapping
from io import BytesIO
from typing import Any, ClassVar

from aiokafka.errors import IncompatibleBrokerVersion
from aiokafka.protocol.api import RequestStruct, Response
from aiokafka.protocol.types import (
    Array,
    Boolean,
    CompactArray,
    CompactString,
    Int16,
    Int32,
    Int64,
    Schema,
    String,
    TaggedFields,
)

_NO_TAGS: dict[int, bytes] = {}


class Uuid(String):
    """Sixteen bytes, read as Kafka writes its ids: URL-safe base64 without padding.

    A String only because aiokafka wants fields inside arrays to be of its own classes; nothing of it is used.
    """

    def encode(self, value: bytes) -> bytes:
        return value

    def decode(self, data: BytesIO) -> str:
        return base64.urlsafe_b64encode(data.read(16)).rstrip(b"=").decode("ascii")


_UUID = Uuid()
NO_UUID = bytes(16)
_TAGS = ("tags", TaggedFields)


class Call:
    """A request in the one version that we speak; fails clearly where the broker does not."""

    def __init__(self, request: RequestStruct) -> None:
        self._request = request

    def prepare(self, versions: Mapping[int, tuple[int, int]]) -> RequestStruct:
        low, high = versions.get(self._request.API_KEY, (0, -1))
        if not low <= self._request.API_VERSION <= high:
            raise IncompatibleBrokerVersion(
                f"{type(self._request).__name__} version {self._request.API_VERSION} is needed, "
                f"the broker speaks {low} to {high}"
            )
        return self._request


class MetadataResponse(Response):
    API_KEY = 3
    API_VERSION = 10
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        (
            "brokers",
            CompactArray(
                ("node_id", Int32), ("host", CompactString()), ("port", Int32), ("rack", CompactString()), _TAGS
            ),
        ),
        ("cluster_id", CompactString()),
        ("controller_id", Int32),
        (
            "topics",
            CompactArray(
                ("error_code", Int16),
                ("name", CompactString()),
                ("topic_id", _UUID),
                ("is_internal", Boolean),
                (
                    "partitions",
                    CompactArray(
                        ("error_code", Int16),
                        ("partition", Int32),
                        ("leader", Int32),
                        ("leader_epoch", Int32),
                        ("replicas", CompactArray(Int32)),
                        ("isr", CompactArray(Int32)),
                        ("offline_replicas", CompactArray(Int32)),
                        _TAGS,
                    ),
                ),
                ("authorized_operations", Int32),
                _TAGS,
            ),
        ),
        ("cluster_authorized_operations", Int32),
        _TAGS,
    )


class MetadataRequest(RequestStruct):
    API_KEY = 3
    API_VERSION = 10
    FLEXIBLE_VERSION = True
    RESPONSE_TYPE = MetadataResponse
    SCHEMA = Schema(
        ("topics", CompactArray(("topic_id", _UUID), ("name", CompactString()), _TAGS)),
        ("allow_auto_topic_creation", Boolean),
        ("include_cluster_authorized_operations", Boolean),
        ("include_topic_authorized_operations", Boolean),
        _TAGS,
    )


def metadata(topics: list[str]) -> Call:
    """Brokers, and these topics with their ids; never creates a topic that is not there."""
    return Call(MetadataRequest([(NO_UUID, name, _NO_TAGS) for name in topics], False, False, False, _NO_TAGS))


def permissions(topics: list[str]) -> Call:
    """As `metadata`, with what this client may do to the topics and to the cluster: bit N stands for operation N."""
    return Call(MetadataRequest([(NO_UUID, name, _NO_TAGS) for name in topics], False, True, True, _NO_TAGS))


class CreateTopicsResponse(Response):
    API_KEY = 19
    API_VERSION = 4
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        (
            "topics",
            Array(("topic", String("utf-8")), ("error_code", Int16), ("error_message", String("utf-8"))),
        ),
    )


class CreateTopicsRequest(RequestStruct):
    """Version 4 is the first that takes -1 for the cluster's own default replication (KIP-464)."""

    API_KEY = 19
    API_VERSION = 4
    RESPONSE_TYPE = CreateTopicsResponse
    SCHEMA = Schema(
        (
            "topics",
            Array(
                ("topic", String("utf-8")),
                ("partitions", Int32),
                ("replication_factor", Int16),
                ("assignments", Array(("partition", Int32), ("replicas", Array(Int32)))),
                ("configs", Array(("key", String("utf-8")), ("value", String("utf-8")))),
            ),
        ),
        ("timeout_ms", Int32),
        ("validate_only", Boolean),
    )


def create_topic(name: str, timeout_ms: int, settings: Mapping[str, str]) -> Call:
    """One partition, the cluster's default replication."""
    return Call(CreateTopicsRequest([(name, 1, -1, [], [*settings.items()])], timeout_ms, False))


class DescribeProducersResponse(Response):
    API_KEY = 61
    API_VERSION = 0
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        (
            "topics",
            CompactArray(
                ("name", CompactString()),
                (
                    "partitions",
                    CompactArray(
                        ("partition", Int32),
                        ("error_code", Int16),
                        ("error_message", CompactString()),
                        (
                            "active_producers",
                            CompactArray(
                                ("producer_id", Int64),
                                ("producer_epoch", Int32),
                                ("last_sequence", Int32),
                                ("last_timestamp", Int64),
                                ("coordinator_epoch", Int32),
                                ("txn_start_offset", Int64),
                                _TAGS,
                            ),
                        ),
                        _TAGS,
                    ),
                ),
                _TAGS,
            ),
        ),
        _TAGS,
    )


class DescribeProducersRequest(RequestStruct):
    API_KEY = 61
    API_VERSION = 0
    FLEXIBLE_VERSION = True
    RESPONSE_TYPE = DescribeProducersResponse
    SCHEMA = Schema(
        ("topics", CompactArray(("name", CompactString()), ("partitions", CompactArray(Int32)), _TAGS)), _TAGS
    )


def describe_producers(topic: str, partition: int) -> Call:
    """The producers that the partition's leader remembers."""
    return Call(DescribeProducersRequest([(topic, [partition], _NO_TAGS)], _NO_TAGS))


class ProduceResponse(Response):
    API_KEY = 0
    API_VERSION = 7
    SCHEMA = Schema(
        (
            "topics",
            Array(
                ("topic", String("utf-8")),
                (
                    "partitions",
                    Array(
                        ("partition", Int32),
                        ("error_code", Int16),
                        ("base_offset", Int64),
                        ("log_append_time_ms", Int64),
                        ("log_start_offset", Int64),
                    ),
                ),
            ),
        ),
        ("throttle_time_ms", Int32),
    )


class ProduceRequest(RequestStruct):
    """One batch for one partition, acks=all, outside any transaction. Encoded by hand to copy the batch only once."""

    API_KEY = 0
    API_VERSION = 7
    RESPONSE_TYPE = ProduceResponse
    SCHEMA: ClassVar[Schema] = Schema(("head", String("utf-8")), ("batch", String("utf-8")))

    def encode(self) -> bytes:
        fields: dict[str, Any] = self.__dict__
        return b"".join((fields["head"], struct.pack(">i", len(fields["batch"])), fields["batch"]))


def produce(topic: str, partition: int, batch: bytes, timeout_ms: int) -> Call:
    name = topic.encode("utf-8")
    head = struct.pack(f">hhiih{len(name)}sii", -1, -1, timeout_ms, 1, len(name), name, 1, partition)
    return Call(ProduceRequest(head, batch))
