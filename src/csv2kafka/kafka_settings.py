"""How to reach the cluster: what client properties come to, validated. A secret shows itself to nobody by accident."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, Field, SecretStr, model_validator

from csv2kafka.input_settings import STRICT


class OAuthSettings(BaseModel):
    """Where tokens come from, for client credentials. `cafile` (PEM): who vouches for the endpoint, the system's
    authorities unless given. `extensions` go to the broker with each token.
    """

    model_config = STRICT

    token_url: str
    client_id: str
    client_secret: SecretStr
    scope: str | None = None
    cafile: str | None = None
    extensions: dict[str, str] = {}


class MskIamSettings(BaseModel):
    """Whose AWS credentials sign, and for which region. None: AWS's usual chain, the region of the brokers' names."""

    model_config = STRICT

    profile: str | None = None
    region: str | None = None
    role_arn: str | None = None
    role_session_name: str = "csv2kafka"


class KafkaSettings(BaseModel):
    """How to reach the cluster. `bootstrap` is HOST:PORT, several separated by commas; files are PEM, and so are the
    texts that may stand in their place (`*_pem`). None for the authorities: the system's.
    """

    model_config = STRICT

    bootstrap: str
    client_id: str = "csv2kafka"
    security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = "PLAINTEXT"
    sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER", "AWS_MSK_IAM"] | None = None
    sasl_username: str | None = None
    sasl_password: SecretStr | None = None
    oauth: OAuthSettings | None = None
    msk_iam: MskIamSettings | None = None
    ssl_cafile: str | None = None
    ssl_certfile: str | None = None
    ssl_keyfile: str | None = None
    ssl_password: SecretStr | None = None
    ssl_ca_pem: str | None = None
    ssl_certificate_pem: str | None = None
    ssl_key_pem: SecretStr | None = None
    ssl_check_hostname: bool = True
    request_timeout_ms: int = Field(default=30_000, gt=0)
    delivery_timeout_s: float = Field(default=120.0, gt=0)

    @model_validator(mode="after")
    def _one_request_fits_the_delivery(self) -> KafkaSettings:
        if self.delivery_timeout_s * 1000 < self.request_timeout_ms:
            raise ValueError(
                f"delivery.timeout.ms ({self.delivery_timeout_s * 1000:.0f}) is shorter than "
                f"request.timeout.ms ({self.request_timeout_ms}): no request could ever be repeated"
            )
        return self
