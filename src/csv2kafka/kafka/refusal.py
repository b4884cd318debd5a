"""Why a broker does not let this client in, as an error that says what to do.

A broker says little to whom it does not know: it hangs up. Then it is asked again, in the other protocols and without
any secret, what it speaks.
"""

from __future__ import annotations

import asyncio
import json
import ssl
from dataclasses import dataclass

from aiokafka import errors as kafka_errors
from aiokafka.conn import AIOKafkaConnection
from aiokafka.protocol.admin import SaslHandShakeRequest

from csv2kafka.errors import ConfigError, Csv2KafkaError, Denied
from csv2kafka.kafka.login import ServerNotTrusted, TokenRefused
from csv2kafka.kafka_settings import KafkaSettings

_ASKING_S = 5.0
_LISTENING_S = 1.0  # for what a broker says unasked: that it wants a certificate
_NO_MECHANISM = "NONE"  # which no broker has: it answers with those that it has
_EXPIRED, _NOT_YET_VALID = 10, 9  # OpenSSL's X509_V_ERR_CERT_...
_OTHER_NAMES = frozenset({62, 64})  # X509_V_ERR_HOSTNAME_MISMATCH, ..._IP_ADDRESS_MISMATCH
# What brokers answer to a certificate that they do not take; Java's do not tell all of them apart.
_ALERTS = {
    "CERTIFICATE_REQUIRED": "it gave none",
    "BAD_CERTIFICATE": "it gave none, or one that is not valid",
    "CERTIFICATE_EXPIRED": "it has expired",
    "CERTIFICATE_REVOKED": "it was revoked",
    "CERTIFICATE_UNKNOWN": "no authority that the broker trusts has signed it, or it has expired",
    "UNKNOWN_CA": "no authority that the broker trusts has signed it",
    "UNSUPPORTED_CERTIFICATE": "it is not meant for clients",
}


@dataclass(frozen=True, slots=True)
class Door:
    """A broker's address, and how this client comes there."""

    host: str
    port: int
    settings: KafkaSettings
    ssl_context: ssl.SSLContext | None

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"

    @property
    def protocol(self) -> str:
        return self.settings.security_protocol


def refusal(error: Exception, door: Door) -> Csv2KafkaError | None:
    """The error for what the broker has said clearly; None where it has not, or where asking again may help."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return _untrusted(error, door)
    alert = _alert(error)
    if alert is not None:
        return _certificate_refused(alert, door)
    if isinstance(error, TokenRefused):
        return _token_refused(error, door)
    if isinstance(error, ServerNotTrusted):
        return Denied(
            f"{door} is not to be trusted: it does not prove that it knows the password of user "
            f"{door.settings.sasl_username} ({door.settings.sasl_mechanism})",
            hint="Something else than your cluster may answer there: check the address (-b), and let TLS tell who "
            "it is (security.protocol=SASL_SSL).",
        )
    if isinstance(error, kafka_errors.SaslAuthenticationFailed):
        who = f" user {door.settings.sasl_username}" if door.settings.sasl_username else " the token"
        return Denied(
            f"{door} refuses{who} ({door.settings.sasl_mechanism}): {error.args[0]}",
            hint="Check user, password and sasl.mechanism in the client properties.",
        )
    return None


async def find_out(error: Exception, door: Door) -> Csv2KafkaError | None:
    """`refusal`, or what asking the broker anew brings to light: it hung up, or said nothing but no."""
    told = refusal(error, door)
    if told is not None or not _hung_up(error):
        return told
    spoken, mechanisms = await _spoken_at(door)
    if spoken not in (None, door.protocol):
        offered = f" with sasl.mechanism one of {', '.join(mechanisms)}" if mechanisms else ""
        return ConfigError(
            f"{door} speaks {spoken}, but security.protocol is {door.protocol}",
            hint=f"Set security.protocol={spoken}{offered}, or choose another port.",
        )
    if isinstance(error, kafka_errors.UnsupportedSaslMechanismError):
        return Denied(
            f"{door}: the cluster does not offer this SASL mechanism ({door.settings.sasl_mechanism})",
            hint=f"Set sasl.mechanism to one that it offers: {', '.join(mechanisms)}.",
        )
    alert = await _tls_alert(door, door.ssl_context) if door.ssl_context else None
    return _certificate_refused(alert, door) if alert else None


def _untrusted(error: ssl.SSLCertVerificationError, door: Door) -> ConfigError:
    hints = {
        _EXPIRED: "Have the broker's certificate renewed, and see whether this machine's clock is right.",
        _NOT_YET_VALID: "See whether this machine's clock is right.",
    }
    hint = hints.get(
        error.verify_code,
        "Give the certificate of the authority that signed the broker's as ssl.truststore.location.",
    )
    if error.verify_code in _OTHER_NAMES:
        hint = (
            "Use the name that is in the certificate, in -b and in the broker's advertised.listeners. Where the name "
            "cannot be right: ssl.endpoint.identification.algorithm= (empty) gives that check up."
        )
    return ConfigError(f"the certificate of {door} is refused: {error.verify_message}", hint=hint)


def _certificate_refused(alert: str, door: Door) -> Denied:
    settings = door.settings
    if settings.ssl_certfile is None and settings.ssl_certificate_pem is None:
        return Denied(
            f"{door} wants a certificate of this client, and none is given ({alert})",
            hint="Give certificate and key as ssl.keystore.location (a PEM file with both).",
        )
    name = settings.ssl_certfile or "of ssl.keystore.certificate.chain"
    return Denied(
        f"{door} refuses this client's certificate {name}: {_ALERTS[alert]} ({alert})",
        hint="Look at it (openssl x509 -noout -text -in FILE); have it signed by an authority that the brokers trust.",
    )


def _token_refused(error: TokenRefused, door: Door) -> Denied:
    answer, token = error.args
    try:
        reason = json.loads(answer)["status"]
    except (ValueError, KeyError, TypeError):
        reason = "no reason given"
    if door.settings.msk_iam is not None:
        return Denied(
            f"{door} refuses the token that was signed with AWS credentials: {reason}",
            hint="See whether the principal may kafka-cluster:Connect to the cluster, and whether this clock is right.",
        )
    return Denied(
        f"{door} refuses the token: {reason}" + (f" (it says: {token})" if token else ""),
        hint="Compare it with the broker's sasl.oauthbearer.expected.audience, .expected.issuer and "
        ".jwks.endpoint.url; the broker's log has the reason.",
    )


def _alert(error: BaseException | None) -> str | None:
    """The name of the alert about a certificate that an error comes from."""
    while error is not None:
        if isinstance(error, ssl.SSLError):
            return next((name for name in _ALERTS if str(error.reason).endswith(f"ALERT_{name}")), None)
        error = error.__cause__ or error.__context__
    return None


def _hung_up(error: Exception) -> bool:
    if isinstance(error, ConnectionRefusedError):
        return False
    return isinstance(
        error,
        kafka_errors.KafkaConnectionError
        | kafka_errors.UnsupportedSaslMechanismError
        | kafka_errors.IllegalSaslStateError
        | ConnectionError
        | ssl.SSLError,
    )


class _Question(AIOKafkaConnection):
    """A connection that asks for a mechanism that nobody has, and so sends no secret. TLS with whatever certificate."""

    def __init__(self, door: Door, protocol: str) -> None:
        super().__init__(
            door.host,
            door.port,
            security_protocol=protocol,
            ssl_context=_any_certificate(),
            sasl_mechanism=_NO_MECHANISM,
            request_timeout_ms=int(_ASKING_S * 1000),
        )
        self.mechanisms: tuple[str, ...] = ()

    async def _do_sasl_handshake(self) -> None:
        answer = await self.send(SaslHandShakeRequest(_NO_MECHANISM))
        if answer.error_code == kafka_errors.UnsupportedSaslMechanismError.errno:
            self.mechanisms = tuple(sorted(answer.enabled_mechanisms))


async def _spoken_at(door: Door) -> tuple[str | None, tuple[str, ...]]:
    """(the security protocol of the broker there, its SASL mechanisms); None where nothing can be made out."""
    for transport in ("SSL", "PLAINTEXT"):
        question = _Question(door, f"SASL_{transport}")
        try:
            await question.connect()
        except (OSError, kafka_errors.KafkaError):
            continue
        finally:
            question.close()
        return f"SASL_{transport}" if question.mechanisms else transport, question.mechanisms
    try:
        await _tls_alert(door, _any_certificate())
    except OSError:
        return None, ()
    return "SSL", ()  # TLS it speaks, but not with whom it does not know


async def _tls_alert(door: Door, context: ssl.SSLContext) -> str | None:
    """Shake hands and listen: sending could break the connection before the alert is read. Raises OSError: no TLS."""
    try:
        async with asyncio.timeout(_ASKING_S):
            reader, writer = await asyncio.open_connection(door.host, door.port, ssl=context)
    except ssl.SSLError as error:
        if _alert(error) is None:
            raise
        return _alert(error)
    try:
        async with asyncio.timeout(_LISTENING_S):
            await reader.read(1)
    except OSError as error:  # TimeoutError is one: it waits for a request
        return _alert(error)
    finally:
        writer.close()
    return None


def _any_certificate() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context
