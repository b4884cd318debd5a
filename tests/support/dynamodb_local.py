"""Amazon's own DynamoDB for one machine, out of a Maven repository: nearer to the service than a mock is."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager

from csv2kafka.javaenv import find_jars, find_java
from tests.support.processes import Children

HOST = "127.0.0.1"
_COORDINATE = "com.amazonaws:DynamoDBLocal:2.6.1"
_PATIENCE_S = 60.0


@contextmanager
def serving_dynamodb() -> Iterator[str]:
    """A server with empty memory; yields its URL for AWS_ENDPOINT_URL, and ends it on leaving."""
    files = find_jars(_COORDINATE)  # among them SQLite for each kind of machine, which is no jar
    jars = [str(file) for file in files if file.suffix == ".jar"]
    folders = [str(file.parent) for file in files if file.suffix != ".jar"]
    children = Children()
    with socket.socket() as reserved:  # bound and never listening, it keeps the port out of the hands of others
        reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        reserved.bind((HOST, 0))
        port = reserved.getsockname()[1]
        server = children.start(
            [
                *(str(find_java()), "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xmx128m"),
                *(f"-Djava.library.path={os.pathsep.join(folders)}", "-cp", os.pathsep.join(jars)),
                *("com.amazonaws.services.dynamodbv2.local.main.ServerRunner", "-inMemory", "-disableTelemetry"),
                *("-port", str(port)),
            ]
        )
        try:
            deadline = time.monotonic() + _PATIENCE_S
            while not _accepts_connections(port):
                assert server.poll() is None, server.communicate()
                assert time.monotonic() < deadline, f"DynamoDBLocal did not answer within {_PATIENCE_S:.0f} s"
                time.sleep(0.02)
            yield f"http://{HOST}:{port}"
        finally:
            children.close()


def _accepts_connections(port: int) -> bool:
    try:
        socket.create_connection((HOST, port), timeout=1).close()
    except OSError:
        return False
    return True
