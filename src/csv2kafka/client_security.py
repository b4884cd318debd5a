"""What client properties say about logging in and TLS: what each mechanism needs, and which go together.

Names and places of properties are client_properties.py's. No value of a secret one may reach a message.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from csv2kafka.errors import UsageError
from csv2kafka.jaas import read_login
from csv2kafka.pem import has_key, inline_pem, is_encrypted, read_pem

JAAS = "sasl.jaas.config"
_MSK_IAM = "AWS_MSK_IAM"
_PASSWORD = {"username": "sasl_username", "password": "sasl_password"}
# Login module -> its option -> our name for it. Of OAuth's, `extension_NAME` is known as well.
_LOGIN_MODULES: dict[str, dict[str, str]] = {
    "PlainLoginModule": _PASSWORD,
    "ScramLoginModule": _PASSWORD,
    "OAuthBearerLoginModule": {
        "clientId": "oauth_client_id",
        "clientSecret": "oauth_client_secret",
        "scope": "oauth_scope",
        "ssl.truststore.location": "oauth_cafile",
        "ssl.truststore.type": "oauth_truststore_type",
    },
    "IAMLoginModule": {
        "awsProfileName": "msk_profile",
        "awsRoleArn": "msk_role_arn",
        "awsRoleSessionName": "msk_role_session_name",
    },
}
_MEANINGLESS_OPTIONS = {"serviceName", "debug", "awsDebugCreds"}  # to who is not Java
_EXTENSION = "extension_"
_MECHANISMS = {
    "PLAIN": "PlainLoginModule",
    "SCRAM-SHA-256": "ScramLoginModule",
    "SCRAM-SHA-512": "ScramLoginModule",
    "OAUTHBEARER": "OAuthBearerLoginModule",
    _MSK_IAM: "IAMLoginModule",
}
_PASSWORD_NEEDS = {"sasl_username": "sasl.username", "sasl_password": "sasl.password"}
_NEEDS = {
    "OAUTHBEARER": {
        "oauth_token_url": "sasl.oauthbearer.token.endpoint.url",
        "oauth_client_id": "sasl.oauthbearer.client.credentials.client.id",
        "oauth_client_secret": "sasl.oauthbearer.client.credentials.client.secret",
    },
    _MSK_IAM: {},
}
_OAUTH, _MSK, _LOGIN = "oauth_", "msk_", "sasl_"


@dataclass(frozen=True)
class Given:
    """A property's value, and where the user wrote it."""

    value: str
    origin: str
    name: str


def variable_of(name: str) -> str:
    """The environment variable for a property."""
    return "KAFKA_" + name.upper().replace(".", "_")


def one_of(given: Given, allowed: Sequence[str]) -> str:
    for value in allowed:
        if value.lower() == given.value.lower():
            return value
    raise UsageError(f"{given.origin}: {given.value!r} is not supported", hint=f"one of {', '.join(allowed)}")


def login_fields(jaas: Given) -> dict[str, Given]:
    """The module and options of a JAAS line, by our names. Raises UsageError for what has no meaning here."""
    module, options = read_login(jaas.value, jaas.origin)
    known = _LOGIN_MODULES.get(module)
    if known is None:
        raise UsageError(
            f"{jaas.origin}: only {', '.join(_LOGIN_MODULES)} can be used",
            hint=f"the mechanisms are {', '.join(_MECHANISMS)}",
        )
    fields = {"jaas_module": module}
    for option, value in options.items():
        if option in known:
            fields[known[option]] = value
        elif module == _MECHANISMS["OAUTHBEARER"] and option.startswith(_EXTENSION):
            fields[_OAUTH + option] = value
        elif option not in _MEANINGLESS_OPTIONS:
            raise UsageError(
                f"{jaas.origin}: the option {option} has no meaning here",
                hint=f"those of {module} are {', '.join(known)}",
            )
    return {field: Given(value, jaas.origin, JAAS) for field, value in fields.items()}


def check_sasl(given: Mapping[str, Given], fields: dict[str, Any]) -> None:
    """Leave in `fields` what the mechanism needs: `sasl_*`, or `oauth` and `msk_iam` with fields of their own."""
    protocol = fields.get("security_protocol")
    login = [given[field] for field in ("sasl_mechanism", "sasl_username", "sasl_password") if field in given]
    if protocol is None and login:
        _refuse_half(login[0], "SASL_SSL")
    oauth, msk_iam = (_taken(fields, prefix) for prefix in (_OAUTH, _MSK))
    if protocol not in ("SASL_SSL", "SASL_PLAINTEXT"):
        _taken(fields, _LOGIN)
        return
    if "sasl_mechanism" not in given:
        raise UsageError(f"security.protocol={protocol} needs sasl.mechanism", hint=f"one of {', '.join(_MECHANISMS)}")
    mechanism = one_of(given["sasl_mechanism"], tuple(_MECHANISMS))
    module = given.get("jaas_module")
    if module is not None and module.value != _MECHANISMS[mechanism]:
        raise UsageError(f"sasl.mechanism={mechanism} does not go with {module.value}", hint="change one of them")
    for field, name in _NEEDS.get(mechanism, _PASSWORD_NEEDS).items():
        if field not in given:
            raise UsageError(
                f"sasl.mechanism={mechanism} needs {name}",
                hint=f"set {variable_of(name)}, or {_where_it_goes(name)} in a file for --command-config",
            )
    if mechanism in _NEEDS:
        _taken(fields, _LOGIN)
    if mechanism == "OAUTHBEARER":
        fields["oauth"] = _oauth(given, oauth)
    if mechanism == _MSK_IAM:
        fields["msk_iam"] = msk_iam
    fields["sasl_mechanism"] = mechanism


def _where_it_goes(name: str) -> str:
    return name if name.endswith("url") else JAAS


def _oauth(given: Mapping[str, Given], fields: dict[str, Any]) -> dict[str, Any]:
    extensions = {name.removeprefix(_EXTENSION): fields.pop(name) for name in [*fields] if name.startswith(_EXTENSION)}
    store_type = fields.pop("truststore_type", "PEM")
    if "cafile" in fields:
        origin = given["oauth_cafile"].origin
        read_pem(Path(fields["cafile"]), origin, is_trust=True)
        if store_type.upper() != "PEM":
            raise UsageError(f"{origin}: only PEM files can be read", hint="ssl.truststore.type is PEM")
    if not fields["token_url"].startswith(("https://", "http://")):
        raise UsageError(f"{given['oauth_token_url'].origin} is no http or https address", hint="https://HOST/PATH")
    return {**fields, "extensions": extensions}


def check_ssl(given: Mapping[str, Given], fields: dict[str, Any]) -> None:
    """Leave in `fields` what TLS needs, as it is where the protocol uses it."""
    protocol = fields.get("security_protocol")
    names = ("ssl_cafile", "ssl_certfile", "ssl_keyfile", "ssl_ca_pem", "ssl_certificate_pem", "ssl_key_pem")
    parts = {field: given[field] for field in names if field in given}
    if protocol is None and parts:
        _refuse_half(next(iter(parts.values())), "SSL")
    _taken(fields, "store_")
    if protocol not in ("SSL", "SASL_SSL"):
        _taken(fields, "ssl_")
        return
    texts = {field: _text(field, entry) for field, entry in parts.items()}
    fields |= {field: text for field, text in texts.items() if field.endswith("_pem")}
    for field in [field for field in given if field.startswith("store_")]:
        if field.endswith("_type"):
            one_of(given[field], ("PEM",))
        else:
            raise UsageError(
                f"{given[field].origin} cannot be set: a PEM file has no password, only a key in it has",
                hint="leave it out; the key's is ssl.key.password",
            )
    if "ssl_check_hostname" in fields:
        fields["ssl_check_hostname"] = one_of(given["ssl_check_hostname"], ("https", "none", "")) == "https"
    _check_pair(given, texts, ("ssl_certfile", "ssl_keyfile"), "ssl.certificate.location", "ssl.key.location")
    _check_pair(
        given, texts, ("ssl_certificate_pem", "ssl_key_pem"), "ssl.keystore.certificate.chain", "ssl.keystore.key"
    )


def _text(field: str, entry: Given) -> str:
    if field.endswith("_pem"):
        return inline_pem(entry.value, entry.origin)
    return read_pem(Path(entry.value), entry.origin, is_trust=field == "ssl_cafile")


def _check_pair(
    given: Mapping[str, Given], texts: Mapping[str, str], pair: tuple[str, str], certificate_name: str, key_name: str
) -> None:
    """A key needs a certificate, a certificate a key (in its own file perhaps), an encrypted key its password."""
    certificate, key = pair
    if key in texts and certificate not in texts:
        raise UsageError(f"{given[key].origin} needs a certificate", hint=f"give it as {certificate_name}")
    holder = key if key in texts else certificate
    if holder not in texts:
        return
    if not has_key(texts[holder]):
        raise UsageError(f"{given[holder].origin} holds no private key", hint=f"give the key as {key_name}")
    if is_encrypted(texts[holder]) and "ssl_password" not in given:  # OpenSSL would ask, and hang
        raise UsageError(f"{given[holder].origin}: the key is encrypted", hint=f"set {variable_of('ssl.key.password')}")


def _taken(fields: dict[str, Any], prefix: str) -> dict[str, Any]:
    """The fields of a prefix, without it, taken out: what is left is what the chosen security.protocol has a use for,
    and not a password that is always in the environment.
    """
    return {field.removeprefix(prefix): fields.pop(field) for field in [*fields] if field.startswith(prefix)}


def _refuse_half(entry: Given, protocol: str) -> NoReturn:
    raise UsageError(
        f"{entry.origin} is given, but security.protocol is not: the connection would be in the clear",
        hint=f"add -X security.protocol={protocol}, or PLAINTEXT if that is what you want",
    )
