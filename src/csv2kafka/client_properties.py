"""Kafka's client properties under their Java names, turned into the fields of `KafkaSettings`.

It knows which properties mean something here, which contradict the program's promise, and which are secret.
No value of a secret one may reach a message. Nothing but PEM files and the properties file is opened here.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from csv2kafka.client_security import JAAS, Given, check_sasl, check_ssl, login_fields, one_of, variable_of
from csv2kafka.errors import UsageError

# Property -> field of KafkaSettings; several names of one field are the Java and the librdkafka spelling.
_FIELDS = {
    "bootstrap.servers": "bootstrap",
    "client.id": "client_id",
    "security.protocol": "security_protocol",
    "sasl.mechanism": "sasl_mechanism",
    "sasl.username": "sasl_username",
    "sasl.password": "sasl_password",
    "sasl.oauthbearer.token.endpoint.url": "oauth_token_url",
    "sasl.oauthbearer.client.credentials.client.id": "oauth_client_id",
    "sasl.oauthbearer.client.credentials.client.secret": "oauth_client_secret",
    "sasl.oauthbearer.scope": "oauth_scope",
    "https.ca.location": "oauth_cafile",
    "ssl.ca.location": "ssl_cafile",
    "ssl.truststore.location": "ssl_cafile",
    "ssl.certificate.location": "ssl_certfile",
    "ssl.keystore.location": "ssl_certfile",
    "ssl.key.location": "ssl_keyfile",
    "ssl.key.password": "ssl_password",
    "ssl.truststore.certificates": "ssl_ca_pem",
    "ssl.keystore.certificate.chain": "ssl_certificate_pem",
    "ssl.keystore.key": "ssl_key_pem",
    "ssl.endpoint.identification.algorithm": "ssl_check_hostname",
    "ssl.truststore.type": "store_trust_type",
    "ssl.keystore.type": "store_key_type",
    "ssl.truststore.password": "store_trust_password",
    "ssl.keystore.password": "store_key_password",
    "request.timeout.ms": "request_timeout_ms",
    "delivery.timeout.ms": "delivery_timeout_s",
    "compression.type": "compression",
}
_OAUTH_HANDLER = "org.apache.kafka.common.security.oauthbearer.OAuthBearerLoginCallbackHandler"
_OLD_OAUTH_HANDLER = _OAUTH_HANDLER.replace("oauthbearer.", "oauthbearer.secured.")  # before Kafka 3.4
_MSK_HANDLER = "software.amazon.msk.auth.iam.IAMClientCallbackHandler"
_NO_JAVA = "no Java class is run here, a token comes from an OAuth endpoint (OAUTHBEARER) or AWS (AWS_MSK_IAM)"

# Accepted with the values that say what the program does anyway.
_FIXED = {
    "acks": (("all", "-1"), "a row counts only when every in-sync replica has it"),
    "enable.idempotence": (("true",), "without it a retry would write rows twice"),
    "max.in.flight.requests.per.connection": (("1",), "with more, a retry could change the order of the rows"),
    "sasl.login.callback.handler.class": ((_OAUTH_HANDLER, _OLD_OAUTH_HANDLER), _NO_JAVA),
    "sasl.client.callback.handler.class": ((_MSK_HANDLER,), _NO_JAVA),
    "client.dns.lookup": (("use_all_dns_ips",), "all addresses of a name are tried"),
}
_TLS = "the newest version of TLS that both sides know is used, 1.2 or later, with OpenSSL's ciphers"
_REFUSED = {
    "transactional.id": "the program derives it from job and topic",
    "batch.size": "batches are sized by the topic's max.message.bytes",
    "linger.ms": "batches are always full, nothing lingers",
    "max.request.size": "batches are sized by the topic's max.message.bytes",
    "retries": "delivery.timeout.ms says how long to retry",
    "ssl.protocol": _TLS,
    "ssl.enabled.protocols": _TLS,
    "ssl.cipher.suites": _TLS,
}
_EMPTY_SAYS = {"ssl.endpoint.identification.algorithm"}  # that the host name is not checked
_KNOWN = (*_FIELDS, JAAS, *_FIXED)
_SECRET = frozenset(
    {
        JAAS,
        "sasl.password",
        "sasl.oauthbearer.client.credentials.client.secret",
        "ssl.key.password",
        "ssl.keystore.key",
        "ssl.keystore.password",
        "ssl.truststore.password",
    }
)
# As Kafka's own container images name them: KAFKA_ and the property in capitals.
ENVIRONMENT = {variable_of(name): name for name in _KNOWN}

_COMPRESSIONS = ("lz4", "zstd", "gzip", "snappy", "none")
_PROTOCOLS = ("PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL")
_ADDRESS = re.compile(r"(?:\[[0-9A-Fa-f:.%]+\]|[^\s:/\[\],@]+):\d{1,5}")


@dataclass(frozen=True)
class PropertyLayer:
    """Properties that came from one place. `origin` tells a user where he wrote the property it is called with."""

    values: Mapping[str, str]
    origin: Callable[[str], str]


def split_flag(argument: str) -> tuple[str, str]:
    """`key=value` of one `-X`. A secret is refused: a command line is seen by everyone on the machine."""
    name, separator, value = (part.strip() for part in argument.partition("="))
    if name in _SECRET:
        raise UsageError(
            f"-X {name}: secrets do not belong on a command line, others can read it",
            hint=f"put it into a file for --command-config, or into the environment: {variable_of(name)}",
        )
    if not separator or not name:  # the argument is not repeated: it may be a secret that lost its key
        raise UsageError("-X takes key=value", hint="for example: -X security.protocol=SASL_SSL")
    _check_name(name, f"-X {name}")
    return name, value


def read_file(path: Path) -> PropertyLayer:
    """A Java properties file. Raises UsageError when it cannot be read as one."""
    import javaproperties  # noqa: PLC0415  # slow to import, seldom needed

    try:
        with path.open("rb") as file:
            values = javaproperties.load(file)
    except OSError as error:
        raise UsageError(f"--command-config {path}: {error.strerror}", hint="check the path") from error
    except ValueError as error:
        raise UsageError(f"--command-config {path} is no properties file", hint="one key=value a line") from error
    return PropertyLayer(values, lambda name: f"{path}: {name}")


def kafka_fields(levels: Sequence[Sequence[PropertyLayer]]) -> dict[str, Any]:
    """Merge levels, the strongest first, into fields of KafkaSettings (without defaults) and `compression`.

    The layers of one level are equals: they may not contradict each other. Raises UsageError for that, for names
    without a meaning, and for values that cannot be.
    """
    given: dict[str, Given] = {}
    for level in levels:
        for field, value in _fields_of(level).items():
            given.setdefault(field, value)
    for name, (allowed, reason) in _FIXED.items():
        if name in given and given[name].value.lower() not in map(str.lower, allowed):
            raise UsageError(
                f"{given[name].origin}={given[name].value} is refused: {reason}",
                hint=f"leave it out, or write {name}={allowed[0]}",
            )
    no_fields = {*_FIXED, "jaas_module"}
    fields: dict[str, Any] = {field: entry.value for field, entry in given.items() if field not in no_fields}
    if "bootstrap" in given:
        fields["bootstrap"] = _bootstrap(given["bootstrap"])
    for field, choices in (("security_protocol", _PROTOCOLS), ("compression", _COMPRESSIONS)):
        if field in given:
            fields[field] = one_of(given[field], choices)
    for field in ("request_timeout_ms", "delivery_timeout_s"):
        if field in given:
            fields[field] = _milliseconds(given[field])
    if "delivery_timeout_s" in fields:
        fields["delivery_timeout_s"] /= 1000
    check_sasl(given, fields)
    check_ssl(given, fields)
    return fields


def _check_name(name: str, origin: str) -> None:
    if name in _KNOWN:
        return
    if name in _REFUSED:
        raise UsageError(f"{origin} cannot be set: {_REFUSED[name]}", hint="leave it out")
    near = difflib.get_close_matches(name, _KNOWN, n=1, cutoff=0.5)
    hint = f"did you mean {near[0]}?" if near else f"known are: {', '.join(_KNOWN)}"
    raise UsageError(f"{origin}: no client property of that name has a meaning here", hint=hint)


def _fields_of(level: Sequence[PropertyLayer]) -> dict[str, Given]:
    """One level's properties by field, the login of a JAAS line taken apart."""
    fields: dict[str, Given] = {}

    def put(field: str, entry: Given) -> None:
        earlier = fields.setdefault(field, entry)
        if earlier.value != entry.value:
            raise UsageError(f"{earlier.origin} and {entry.origin} contradict each other", hint="keep one of them")

    for layer in level:
        for name, raw in layer.values.items():
            origin, value = layer.origin(name), raw.strip()
            _check_name(name, origin)
            if name == JAAS:
                for field, part in login_fields(Given(value, origin, name)).items():
                    put(field, part)
            elif value or name in _FIXED or name in _EMPTY_SAYS:  # otherwise an empty value means "not set"
                put(_FIELDS.get(name, name), Given(value, origin, name))
    return fields


def _bootstrap(given: Given) -> str:
    addresses = [part.strip() for part in given.value.split(",") if part.strip()]
    for address in addresses:
        if _ADDRESS.fullmatch(address) is None or not 0 < int(address.rpartition(":")[2]) < 65536:
            raise UsageError(f"{given.origin}: {address!r} is no HOST:PORT", hint="for example: broker-1:9092")
    if not addresses:
        raise UsageError(f"{given.origin} names no broker", hint="for example: broker-1:9092")
    return ",".join(addresses)


def _milliseconds(given: Given) -> int:
    if not given.value.isascii() or not given.value.isdigit() or int(given.value) == 0:
        raise UsageError(f"{given.origin}: {given.value!r} is no number of milliseconds", hint="1 or more")
    return int(given.value)
