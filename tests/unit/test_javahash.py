"""Keys go where Java's producer sends them: asked of the real one, out of Kafka's jars."""

from __future__ import annotations

import base64
import random
import subprocess

import numpy as np
import pytest

from csv2kafka.csvkernel import PADDING
from csv2kafka.encoder import Encoder
from csv2kafka.javaenv import find_jars, find_java
from csv2kafka.javahash import lane_of, murmur2
from csv2kafka.model import Block, Position, RecordShape
from tests.support import csv_oracle

PARTITIONS = (1, 2, 3, 8, 17, 64, 1000)
PROGRAM = """
import java.io.*;
import java.util.Base64;
import org.apache.kafka.clients.producer.internals.BuiltInPartitioner;
import org.apache.kafka.common.utils.Utils;

public class Ask {
    public static void main(String[] args) throws IOException {
        BufferedReader in = new BufferedReader(new InputStreamReader(System.in, "US-ASCII"));
        StringBuilder out = new StringBuilder();
        for (String line; (line = in.readLine()) != null; ) {
            byte[] key = Base64.getDecoder().decode(line);
            out.append(Utils.murmur2(key));
            for (String partitions : args)
                out.append(' ').append(BuiltInPartitioner.partitionForKey(key, Integer.parseInt(partitions)));
            out.append('\\n');
        }
        System.out.print(out);
    }
}
"""


def keys(count: int) -> list[bytes]:
    """Of every short length, any bytes; and texts as keys are."""
    rng = random.Random(2)
    short = [rng.randbytes(length) for length in range(64) for _ in range(20)]
    edges = [bytes([byte]) * length for byte in (0, 0x7F, 0x80, 0xFF) for length in range(1, 9)]
    texts = [f"customer-{rng.randrange(10**9)}é"[: rng.randint(1, 30)].encode() for _ in range(count // 2)]
    rest = [rng.randbytes(rng.randint(1, 40)) for _ in range(count - len(short) - len(edges) - len(texts))]
    return [*short, *edges, *texts, *rest]


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory, kafka_version: str) -> list[tuple[bytes, list[int]]]:
    """100,000 keys with what Java says of them: the hash, then a partition for each of PARTITIONS."""
    source = tmp_path_factory.mktemp("java") / "Ask.java"
    source.write_text(PROGRAM)
    jars = find_jars(f"org.apache.kafka:kafka-clients:{kafka_version}")
    wanted = keys(100_000)
    result = subprocess.run(
        [find_java(), "-cp", ":".join(map(str, jars)), source, *map(str, PARTITIONS)],
        input=b"".join(base64.b64encode(key) + b"\n" for key in wanted),
        stdout=subprocess.PIPE,
        check=True,
        timeout=120,
    )
    answers = [list(map(int, line.split())) for line in result.stdout.splitlines()]
    return list(zip(wanted, answers, strict=True))


def test_hashes_and_partitions_are_javas(asked: list[tuple[bytes, list[int]]]) -> None:
    assert len(asked) == 100_000
    for key, (java_hash, *partitions) in asked:
        data = np.frombuffer(b"<" + key + b">", np.uint8)
        assert murmur2(data, 1, 1 + len(key)) == java_hash & 0xFFFFFFFF, key
        for count, partition in zip(PARTITIONS, partitions, strict=True):
            assert lane_of(data, 1, 1 + len(key), count) == partition, (key, count)


@pytest.mark.parametrize("place", [1, 3, 6])
def test_the_encoder_puts_each_row_there(asked: list[tuple[bytes, list[int]]], place: int) -> None:
    texts = [(key, answers[1 + place]) for key, answers in asked if key.isascii() and not set(key) & set(b'",\r\n')]
    texts = [(key, lane) for key, lane in texts if key]
    data = b"".join(key + b",x\n" for key, _ in texts)
    shape = RecordShape(("k", "v"), key=("k",))
    encoded = Encoder(shape, 0, 1 << 30, PARTITIONS[place]).encode(
        Block(data + bytes(PADDING), len(data), Position(0, 0), len(texts))
    )
    got = {
        record.key: batch.lane
        for portion in encoded.portions
        for batch in portion.batches
        for record in csv_oracle.parse(batch.records)
    }
    assert len(texts) > 30_000
    assert got == dict(texts)
