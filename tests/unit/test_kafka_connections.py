"""Why there is no connection: what the operator hears, and whether asking again can help."""

from __future__ import annotations

import asyncio
import datetime
import errno
import ipaddress
import socket
import ssl
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from csv2kafka.errors import ConfigError, KafkaUnavailable, Retryable
from csv2kafka.kafka.client import Client
from csv2kafka.kafka_settings import KafkaSettings

HOST = "127.0.0.1"


async def connect(**settings: Any) -> None:
    async with Client(KafkaSettings(**settings)):
        pass


@pytest.fixture(scope="module")
def own_certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Key and certificate of a broker that nobody but itself vouches for."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, HOST)])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(HOST))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    path = tmp_path_factory.mktemp("tls") / "broker.pem"
    path.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        + certificate.public_bytes(serialization.Encoding.PEM)
    )
    return path


def test_a_certificate_that_nobody_vouches_for(own_certificate: Path) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(own_certificate)

    async def main() -> None:
        server = await asyncio.start_server(lambda _, writer: writer.close(), HOST, 0, ssl=context)
        async with server:
            address = f"{HOST}:{server.sockets[0].getsockname()[1]}"
            with pytest.raises(ConfigError, match="is refused: self-signed certificate") as refused:
                await connect(bootstrap=address, security_protocol="SSL")
            assert "ssl.truststore.location" in refused.value.hint

    asyncio.run(main())


@pytest.fixture
def silent_port() -> Iterator[int]:
    """A port at which nobody listens and that nobody else gets."""
    with closing(socket.socket()) as held:
        held.bind((HOST, 0))
        yield held.getsockname()[1]


def test_nobody_listens(silent_port: int) -> None:
    with pytest.raises(KafkaUnavailable, match=rf"no broker answers at {HOST}:{silent_port}: .*Connect call failed"):
        asyncio.run(connect(bootstrap=f"{HOST}:{silent_port}"))


def test_no_socket_to_be_had(silent_port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    async def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EMFILE, "Too many open files")

    async def main() -> None:
        monkeypatch.setattr(asyncio.get_running_loop(), "create_connection", refuse)
        await connect(bootstrap=f"{HOST}:{silent_port}")

    with pytest.raises(Retryable, match="may not open more files"):
        asyncio.run(main())
