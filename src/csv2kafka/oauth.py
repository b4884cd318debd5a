"""Tokens for client credentials from an OAuth 2 endpoint. The only place that speaks to one; it keeps nothing.

No secret and no token may reach a message, nor a host that was not named: redirects are not followed.
"""

from __future__ import annotations

import base64
import json
import ssl
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from email.message import Message
from http.client import HTTPException
from typing import IO, Any
from urllib.error import HTTPError, URLError
from urllib.parse import urlencode, urlsplit
from urllib.request import HTTPRedirectHandler, HTTPSHandler, Request, build_opener

from csv2kafka.errors import ConfigError, Denied, KafkaUnavailable
from csv2kafka.kafka_settings import OAuthSettings

_TIMEOUT_S = 5.0  # a stop has 10 s
_LIMIT_BYTES = 1 << 20
_WORTH_ASKING_AGAIN = frozenset({408, 425, 429})  # and all from 500 on
_UNKNOWN_LIFETIME_S = 300.0
_CHECK = "Check sasl.oauthbearer.token.endpoint.url and the network, then run the same command again."


@dataclass(frozen=True, slots=True)
class Token:
    """`lifetime_s` counts from when it was made."""

    text: str = field(repr=False)
    lifetime_s: float


class _NoRedirects(HTTPRedirectHandler):
    def redirect_request(
        self, req: Request, fp: IO[bytes], code: int, msg: str, headers: Message, newurl: str
    ) -> Request | None:
        return None


def fetch_token(settings: OAuthSettings) -> Token:
    """Ask the endpoint for a token. Blocks for some seconds at most.

    Raises Denied (it refuses the client), ConfigError (it is none, or not to be trusted), KafkaUnavailable (it does
    not answer now).
    """
    place = _place(settings.token_url)
    try:
        opener = build_opener(_NoRedirects, HTTPSHandler(context=ssl.create_default_context(cafile=settings.cafile)))
        with opener.open(_request(settings), timeout=_TIMEOUT_S) as answer:
            body = answer.read(_LIMIT_BYTES)
    except HTTPError as error:
        raise _refusal(settings, error, place) from None
    except (OSError, HTTPException) as error:  # URLError and TimeoutError are OSErrors
        raise _silence(error, place) from None
    try:
        content = json.loads(body)
        text = content["access_token"]
        lifetime_s = float(content.get("expires_in") or _lifetime_s(text))
    except (ValueError, TypeError, KeyError):
        raise ConfigError(f"the answer of {place} holds no access_token", hint=_CHECK) from None
    return Token(str(text), lifetime_s)


def _request(settings: OAuthSettings) -> Request:
    form = {"grant_type": "client_credentials"} | ({"scope": settings.scope} if settings.scope else {})
    client = f"{settings.client_id}:{settings.client_secret.get_secret_value()}"
    return Request(  # noqa: S310  # the settings allow http and https alone
        settings.token_url,
        data=urlencode(form).encode(),
        headers={"Authorization": f"Basic {base64.b64encode(client.encode()).decode()}", "Accept": "application/json"},
    )


def _place(url: str) -> str:
    """The address as it may be shown: without a user, a password or a query in it."""
    parts = urlsplit(url)
    return f"the token endpoint {parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def _refusal(settings: OAuthSettings, error: HTTPError, place: str) -> Denied | ConfigError | KafkaUnavailable:
    if error.code >= 500 or error.code in _WORTH_ASKING_AGAIN:
        return KafkaUnavailable(f"{place} answers {error.code} {error.reason}", hint=_CHECK)
    try:
        content = json.loads(error.read(_LIMIT_BYTES))
        told = ": ".join(str(content[name]) for name in ("error", "error_description") if content.get(name))
    except (OSError, ValueError, TypeError, AttributeError, KeyError):
        told = ""
    secret = settings.client_secret.get_secret_value()
    reason = (told or str(error.reason)).replace(secret, "...")
    if error.code in (400, 401, 403):
        return Denied(
            f"{place} refuses client {settings.client_id}: {reason} ({error.code})",
            hint="Check clientId, clientSecret and scope in the client properties.",
        )
    return ConfigError(f"{place} answers {error.code} {reason}", hint=_CHECK)


def _silence(error: OSError | HTTPException, place: str) -> ConfigError | KafkaUnavailable:
    cause = error.reason if isinstance(error, URLError) else error
    if isinstance(cause, ssl.SSLCertVerificationError):
        return ConfigError(
            f"the certificate of {place} cannot be verified: {cause.verify_message}",
            hint="Give the certificate of the authority that signed it as https.ca.location.",
        )
    return KafkaUnavailable(f"{place} does not answer: {cause}", hint=_CHECK)


def _lifetime_s(text: str) -> float:
    expires_s = _claims(text).get("exp")
    return expires_s - time.time() if isinstance(expires_s, int | float) else _UNKNOWN_LIFETIME_S


def describe(text: str) -> str:
    """What a token says of itself, as far as it can be read: for whom, by whom, until when. It opens no door."""
    return ", ".join(_told(_claims(text)))


def _told(claims: dict[str, Any]) -> Iterator[str]:
    for name, meaning in (("sub", "subject"), ("aud", "audience"), ("iss", "issuer"), ("scope", "scope")):
        if name in claims:
            yield f"{meaning} {json.dumps(claims[name])}"
    expires_s = claims.get("exp")
    if isinstance(expires_s, int | float):
        moment = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(expires_s))
        yield f"{'expired' if expires_s < time.time() else 'expires'} {moment}"


def _claims(text: str) -> dict[str, Any]:
    """The claims of a JWT, unverified; none where the token is something else."""
    _, _, rest = text.partition(".")
    part = rest.partition(".")[0]
    try:
        claims = json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
    except ValueError:
        return {}
    return claims if isinstance(claims, dict) else {}
