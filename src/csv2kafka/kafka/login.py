"""From settings to what aiokafka needs of them (TLS, user and password, tokens); and the connection itself."""

from __future__ import annotations

import asyncio
import logging
import ssl
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

from aiokafka.abc import AbstractTokenProvider
from aiokafka.conn import AIOKafkaConnection, OAuthAuthenticator, ScramAuthenticator

from csv2kafka import oauth
from csv2kafka.clock import boottime_s
from csv2kafka.errors import ConfigError
from csv2kafka.kafka_settings import KafkaSettings
from csv2kafka.oauth import Token

_LOG = logging.getLogger(__name__)
_FRESH_SHARE = 0.8  # of a token's lifetime, as in Java's client: what is older is not begun with


class Tokens(AbstractTokenProvider):
    """The current token, made anew shortly before it expires. Making one blocks, and happens in a thread."""

    def __init__(
        self,
        make: Callable[[], Token],
        extensions: dict[str, str] | None = None,
        *,
        clock_s: Callable[[], float] = boottime_s,
    ) -> None:
        self._make = make
        self._extensions = extensions or {}
        self._clock_s = clock_s
        self._one_at_a_time = asyncio.Lock()
        self._token: Token | None = None
        self._fresh_until_s = 0.0

    async def token(self) -> str:
        async with self._one_at_a_time:
            if self._token is None or self._clock_s() >= self._fresh_until_s:
                asked_s = self._clock_s()
                self._token = await asyncio.to_thread(self._make)
                self._fresh_until_s = asked_s + _FRESH_SHARE * self._token.lifetime_s
            return self._token.text

    @property
    def description(self) -> str:
        """What the last token says of itself."""
        return oauth.describe(self._token.text) if self._token else ""

    def extensions(self) -> dict[str, str]:
        return self._extensions


class TokenRefused(Exception):
    """The broker's own words on a token, and what the token says of itself."""


class _BearerAuthenticator(OAuthAuthenticator):
    """aiokafka takes a refusal, which comes as one more challenge (RFC 7628), for a success."""

    def __init__(self, tokens: Tokens) -> None:
        super().__init__(sasl_oauth_token_provider=tokens)
        self._tokens = tokens

    async def step(self, payload: bytes | None) -> tuple[bytes, bool] | None:
        if payload:
            raise TokenRefused(payload.decode(errors="replace"), self._tokens.description)
        return await super().step(payload)  # type: ignore[no-any-return]


class ServerNotTrusted(Exception):
    """A broker that did not prove, as SCRAM wants it of both sides, that it knows the password."""


class _ScramAuthenticator(ScramAuthenticator):
    """aiokafka notices such a broker, but says so as if it were a mistake of the program."""

    def _step(self, payload: bytes | None) -> tuple[bytes, bool] | None:
        try:
            return super()._step(payload)  # type: ignore[no-any-return]
        except (ValueError, KeyError) as error:  # another key's signature or nonce, or none
            raise ServerNotTrusted from error


class Connection(AIOKafkaConnection):
    @classmethod
    async def open(cls, host: str, port: int, **options: Any) -> Self:
        connection = cls(host, port, **options)
        await connection.connect()
        return connection

    def authenticator_oauth(self) -> _BearerAuthenticator:
        return _BearerAuthenticator(self._sasl_oauth_token_provider)

    def authenticator_scram(self) -> _ScramAuthenticator:
        return _ScramAuthenticator(
            loop=self._loop,
            sasl_plain_password=self._sasl_plain_password,
            sasl_plain_username=self._sasl_plain_username,
            sasl_mechanism=self._sasl_mechanism,
        )


def connection_options(settings: KafkaSettings) -> dict[str, Any]:
    """Keyword arguments for aiokafka. Raises ConfigError for keys and certificates that cannot be used."""
    tokens = _tokens(settings)
    mechanism = "OAUTHBEARER" if tokens else settings.sasl_mechanism or "PLAIN"
    return {
        "client_id": settings.client_id,
        "request_timeout_ms": settings.request_timeout_ms,
        "security_protocol": settings.security_protocol,
        "ssl_context": _tls(settings) if settings.security_protocol in ("SSL", "SASL_SSL") else None,
        "sasl_mechanism": mechanism,
        "sasl_plain_username": settings.sasl_username,
        "sasl_plain_password": settings.sasl_password.get_secret_value() if settings.sasl_password else None,
        "sasl_oauth_token_provider": tokens,
    }


def _tokens(settings: KafkaSettings) -> Tokens | None:
    if settings.oauth is not None:
        endpoint = settings.oauth
        if endpoint.token_url.startswith("http://"):
            _LOG.warning("the client's secret goes to the token endpoint in the clear: its address is http://")
        return Tokens(lambda: oauth.fetch_token(endpoint), endpoint.extensions)
    if settings.msk_iam is not None:
        from csv2kafka.msk_iam import sign_token  # noqa: PLC0415  # botocore is slow to import, seldom needed

        credentials = settings.msk_iam
        return Tokens(lambda: sign_token(credentials, settings.bootstrap))
    return None


def _tls(settings: KafkaSettings) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=settings.ssl_cafile, cadata=settings.ssl_ca_pem)
        _load_own_certificate(context, settings)
    except OSError as error:  # SSLError is one
        raise ConfigError(
            f"the keys and certificates for TLS cannot be used: {error}",
            hint="Check the ssl.* properties: paths, PEM format, password, and that the key is the certificate's.",
        ) from None
    if not settings.ssl_check_hostname:
        _LOG.warning(
            "ssl.endpoint.identification.algorithm is empty: whoever has any certificate of a trusted authority "
            "passes for the broker"
        )
        context.check_hostname = False
    return context


def _load_own_certificate(context: ssl.SSLContext, settings: KafkaSettings) -> None:
    password = settings.ssl_password.get_secret_value() if settings.ssl_password else None
    if settings.ssl_certfile is not None:
        context.load_cert_chain(settings.ssl_certfile, settings.ssl_keyfile, password)
    elif settings.ssl_certificate_pem is not None:
        key = settings.ssl_key_pem.get_secret_value() if settings.ssl_key_pem else ""
        # Python takes key and certificate from a file only; this one is the user's alone, and gone at once.
        with tempfile.TemporaryDirectory(prefix="csv2kafka-") as folder:
            path = Path(folder) / "own.pem"
            path.touch(mode=0o600)
            path.write_text(key + settings.ssl_certificate_pem)
            context.load_cert_chain(path, password=password)
