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
from typing import Any, NoReturn

from csv2kafka.errors import UsageError

# Property -> field of KafkaSettings; several names of one field are the Java and the librdkafka spelling.
_FIELDS = {
    "bootstrap.servers": "bootstrap",
    "client.id": "client_id",
    "security.protocol": "security_protocol",
    "sasl.mechanism": "sasl_mechanism",
    "sasl.username": "sasl_username",
    "sasl.password": "sasl_password",
    "ssl.ca.location": "ssl_cafile",
    "ssl.truststore.location": "ssl_cafile",
    "ssl.certificate.location": "ssl_certfile",
    "ssl.keystore.location": "ssl_certfile",
    "ssl.key.location": "ssl_keyfile",
    "ssl.key.password": "ssl_password",
    "request.timeout.ms": "request_timeout_ms",
    "delivery.timeout.ms": "delivery_timeout_s",
    "compression.type": "compression",
}
_JAAS = "sasl.jaas.config"

# Accepted with the values that say what the program does anyway.
_FIXED = {
    "acks": (("all", "-1"), "a row counts only when every in-sync replica has it"),
    "enable.idempotence": (("true",), "without it a retry would write rows twice"),
    "max.in.flight.requests.per.connection": (("1",), "with more, a retry could change the order of the rows"),
    "ssl.truststore.type": (("pem",), "only PEM files can be read"),
    "ssl.keystore.type": (("pem",), "only PEM files can be read"),
    "ssl.endpoint.identification.algorithm": (("https",), "the broker's host name is always checked"),
}
_REFUSED = {
    "transactional.id": "the program derives it from job and topic",
    "batch.size": "batches are sized by the topic's max.message.bytes",
    "linger.ms": "batches are always full, nothing lingers",
    "max.request.size": "batches are sized by the topic's max.message.bytes",
    "retries": "delivery.timeout.ms says how long to retry",
    "ssl.truststore.certificates": "put the certificates into a PEM file and name it with ssl.ca.location",
    "ssl.keystore.certificate.chain": "put key and certificates into a PEM file, named with ssl.keystore.location",
    "ssl.keystore.key": "put key and certificates into a PEM file, named with ssl.keystore.location",
    "ssl.truststore.password": "a PEM file with certificates has no password",
    "ssl.keystore.password": "a PEM file has no password of its own, only its key: ssl.key.password",
}
_KNOWN = (*_FIELDS, _JAAS, *_FIXED)
_SECRET = frozenset({_JAAS, "sasl.password", "ssl.key.password"})
# As Kafka's own container images name them: KAFKA_ and the property in capitals.
ENVIRONMENT = {"KAFKA_" + name.upper().replace(".", "_"): name for name in _KNOWN}

_MECHANISMS = {
    "PLAIN": "PlainLoginModule",
    "SCRAM-SHA-256": "ScramLoginModule",
    "SCRAM-SHA-512": "ScramLoginModule",
}
_COMPRESSIONS = ("lz4", "zstd", "gzip", "snappy", "none")
_PROTOCOLS = ("PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL")
_ADDRESS = re.compile(r"(?:\[[0-9A-Fa-f:.%]+\]|[^\s:/\[\],@]+):\d{1,5}")
_JAAS_ENTRY = re.compile(r"\s*([\w.$]+)\s+(?:required|requisite|sufficient|optional)\b(.*);\s*", re.DOTALL)
_JAAS_OPTION = re.compile(
    r"""\s*([\w.$-]+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|'((?:[^'\\]|\\.)*)'|([^\s"';=]+))""", re.DOTALL
)
_JAAS_ESCAPES = {"a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v"}


@dataclass(frozen=True)
class PropertyLayer:
    """Properties that came from one place. `origin` tells a user where he wrote the property it is called with."""

    values: Mapping[str, str]
    origin: Callable[[str], str]


@dataclass(frozen=True)
class _Given:
    """A value for a field, and where the user wrote it."""

    value: str
    origin: str
    name: str


def split_flag(argument: str) -> tuple[str, str]:
    """`key=value` of one `-X`. A secret is refused: a command line is seen by everyone on the machine."""
    name, separator, value = (part.strip() for part in argument.partition("="))
    if name in _SECRET:
        raise UsageError(
            f"-X {name}: secrets do not belong on a command line, others can read it",
            hint=f"put it into a file for --command-config, or into the environment: {_secret_variable(name)}",
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
    given: dict[str, _Given] = {}
    for level in levels:
        for field, value in _fields_of(level).items():
            given.setdefault(field, value)
    for name, (allowed, reason) in _FIXED.items():
        if name in given and given[name].value.lower() not in allowed:
            raise UsageError(
                f"{given[name].origin}={given[name].value} is refused: {reason}",
                hint=f"leave it out, or write {name}={allowed[0]}",
            )
    fields: dict[str, Any] = {field: given[field].value for field in _FIELDS.values() if field in given}
    if "bootstrap" in given:
        fields["bootstrap"] = _bootstrap(given["bootstrap"])
    for field, choices in (("security_protocol", _PROTOCOLS), ("compression", _COMPRESSIONS)):
        if field in given:
            fields[field] = _one_of(given[field], choices)
    for field in ("request_timeout_ms", "delivery_timeout_s"):
        if field in given:
            fields[field] = _milliseconds(given[field])
    if "delivery_timeout_s" in fields:
        fields["delivery_timeout_s"] /= 1000
    _check_sasl(given, fields)
    _check_ssl(given, fields)
    return fields


def _check_name(name: str, origin: str) -> None:
    if name in _KNOWN:
        return
    if name in _REFUSED:
        raise UsageError(f"{origin} cannot be set: {_REFUSED[name]}", hint="leave it out")
    near = difflib.get_close_matches(name, _KNOWN, n=1, cutoff=0.5)
    hint = f"did you mean {near[0]}?" if near else f"known are: {', '.join(_KNOWN)}"
    raise UsageError(f"{origin}: no client property of that name has a meaning here", hint=hint)


def _fields_of(level: Sequence[PropertyLayer]) -> dict[str, _Given]:
    """One level's properties by field, the login of a JAAS line taken apart."""
    fields: dict[str, _Given] = {}

    def put(field: str, entry: _Given) -> None:
        earlier = fields.setdefault(field, entry)
        if earlier.value != entry.value:
            raise UsageError(f"{earlier.origin} and {entry.origin} contradict each other", hint="keep one of them")

    for layer in level:
        for name, raw in layer.values.items():
            origin, value = layer.origin(name), raw.strip()
            _check_name(name, origin)
            if name == _JAAS:
                for field, part in _login(value, origin).items():
                    put(field, _Given(part, origin, name))
            elif value or name in _FIXED:  # an empty value means "not set", but for the ones it would change
                put(_FIELDS.get(name, name), _Given(value, origin, name))
    return fields


def _login(jaas: str, origin: str) -> dict[str, str]:
    """User name, password and module of a JAAS line, read as Java reads it."""
    entry = _JAAS_ENTRY.fullmatch(jaas)
    options, rest = {}, ""
    if entry is not None:
        for found in _JAAS_OPTION.finditer(entry[2]):
            quoted = found[2] if found[2] is not None else found[3]
            options[found[1]] = found[4] if quoted is None else _unescape(quoted)
        rest = _JAAS_OPTION.sub("", entry[2]).strip()
    if entry is None or rest:
        raise UsageError(
            f"{origin} cannot be read",
            hint='it reads: org.apache.kafka.common.security.plain.PlainLoginModule required username="..." '
            'password="...";',
        )
    module = entry[1].rpartition(".")[2]
    if module not in _MECHANISMS.values() or not {"username", "password"} <= options.keys():
        raise UsageError(
            f"{origin}: only PlainLoginModule and ScramLoginModule with username and password can be used",
            hint=f"the mechanisms are {', '.join(_MECHANISMS)}",
        )
    return {
        "jaas_module": module,
        "sasl_username": options["username"],
        "sasl_password": options["password"],
    }


def _unescape(text: str) -> str:
    return re.sub(r"\\(.)", lambda found: _JAAS_ESCAPES.get(found[1], found[1]), text, flags=re.DOTALL)


def _bootstrap(given: _Given) -> str:
    addresses = [part.strip() for part in given.value.split(",") if part.strip()]
    for address in addresses:
        if _ADDRESS.fullmatch(address) is None or not 0 < int(address.rpartition(":")[2]) < 65536:
            raise UsageError(f"{given.origin}: {address!r} is no HOST:PORT", hint="for example: broker-1:9092")
    if not addresses:
        raise UsageError(f"{given.origin} names no broker", hint="for example: broker-1:9092")
    return ",".join(addresses)


def _one_of(given: _Given, allowed: Sequence[str]) -> str:
    for value in allowed:
        if value.lower() == given.value.lower():
            return value
    raise UsageError(f"{given.origin}: {given.value!r} is not supported", hint=f"one of {', '.join(allowed)}")


def _milliseconds(given: _Given) -> int:
    if not given.value.isascii() or not given.value.isdigit() or int(given.value) == 0:
        raise UsageError(f"{given.origin}: {given.value!r} is no number of milliseconds", hint="1 or more")
    return int(given.value)


def _check_sasl(given: Mapping[str, _Given], fields: dict[str, Any]) -> None:
    protocol = fields.get("security_protocol")
    login = [given[field] for field in ("sasl_mechanism", "sasl_username", "sasl_password") if field in given]
    if protocol is None and login:
        _refuse_half(login[0], "SASL_SSL")
    if protocol not in ("SASL_SSL", "SASL_PLAINTEXT"):
        _drop(fields, "sasl_")
        return
    if "sasl_mechanism" not in given:
        raise UsageError(f"security.protocol={protocol} needs sasl.mechanism", hint=f"one of {', '.join(_MECHANISMS)}")
    mechanism = fields["sasl_mechanism"] = _one_of(given["sasl_mechanism"], tuple(_MECHANISMS))
    module = given.get("jaas_module")
    if module is not None and module.value != _MECHANISMS[mechanism]:
        raise UsageError(f"sasl.mechanism={mechanism} does not go with {module.value}", hint="change one of them")
    for field, name in (("sasl_username", "sasl.username"), ("sasl_password", "sasl.password")):
        if field not in given:
            raise UsageError(
                f"sasl.mechanism={mechanism} needs {name}",
                hint=f"set {_secret_variable(name)}, or {_JAAS} in a file for --command-config",
            )


def _check_ssl(given: Mapping[str, _Given], fields: dict[str, Any]) -> None:
    protocol = fields.get("security_protocol")
    files = [given[field] for field in ("ssl_cafile", "ssl_certfile", "ssl_keyfile") if field in given]
    if protocol is None and files:
        _refuse_half(files[0], "SSL")
    if protocol not in ("SSL", "SASL_SSL"):
        _drop(fields, "ssl_")
        return
    texts = {entry.name: _pem(entry) for entry in files}
    certificate, key = given.get("ssl_certfile"), given.get("ssl_keyfile")
    if key is not None and certificate is None:
        raise UsageError(f"{key.origin} needs a certificate", hint="name it with ssl.certificate.location")
    holder = key or certificate
    if holder is None:
        return
    if "PRIVATE KEY-----" not in texts[holder.name]:
        raise UsageError(f"{holder.origin} holds no private key", hint="name the key's file with ssl.key.location")
    if "ENCRYPTED" in texts[holder.name] and "ssl_password" not in given:  # OpenSSL would ask, and hang
        raise UsageError(f"{holder.origin}: the key is encrypted", hint=f"set {_secret_variable('ssl.key.password')}")


def _drop(fields: dict[str, Any], prefix: str) -> None:
    """Forget what the chosen security.protocol has no use for, such as a password that is always in the environment."""
    for field in [field for field in fields if field.startswith(prefix)]:
        del fields[field]


def _refuse_half(entry: _Given, protocol: str) -> NoReturn:
    raise UsageError(
        f"{entry.origin} is given, but security.protocol is not: the connection would be in the clear",
        hint=f"add -X security.protocol={protocol}, or PLAINTEXT if that is what you want",
    )


def _pem(given: _Given) -> str:
    path = Path(given.value)
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UsageError(f"{given.origin}: {path}: {error.strerror}", hint="check the path") from error
    if b"-----BEGIN " not in content:
        raise UsageError(
            f"{given.origin}: {path} is no PEM file",
            hint="convert it: keytool -importkeystore -srckeystore STORE -destkeystore store.p12 -deststoretype "
            "PKCS12, then openssl pkcs12 -in store.p12 -out store.pem",
        )
    return content.decode("latin-1")


def _secret_variable(name: str) -> str:
    return "KAFKA_" + name.upper().replace(".", "_")
