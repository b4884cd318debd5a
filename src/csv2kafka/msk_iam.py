"""Tokens for Amazon MSK: a URL signed with AWS credentials. The only user of the signer, which is an extra."""

from __future__ import annotations

import re
import time
from typing import Any

from botocore.credentials import CredentialProvider, Credentials
from botocore.exceptions import BotoCoreError, ClientError, HTTPClientError
from botocore.session import Session

from csv2kafka.errors import ConfigError, Denied, KafkaUnavailable
from csv2kafka.kafka_settings import MskIamSettings
from csv2kafka.oauth import Token

# b-1.demo.abc123.c2.kafka.us-east-1.amazonaws.com, boot-abc123.c1.kafka-serverless.us-east-1.amazonaws.com
_BROKER = re.compile(r"\.kafka(?:-serverless)?\.([a-z0-9-]+)\.amazonaws\.com")


def sign_token(settings: MskIamSettings, bootstrap: str) -> Token:
    """A token that lets the holder of the credentials connect. May ask AWS for them; blocks for that.

    Raises ConfigError (no signer installed, no region to be found), Denied (no credentials).
    """
    try:
        from aws_msk_iam_sasl_signer import MSKAuthTokenProvider as Signer  # noqa: PLC0415
    except ImportError:
        raise ConfigError(
            "sasl.mechanism=AWS_MSK_IAM needs the package aws-msk-iam-sasl-signer-python, which is not installed",
            hint="pip install aws-msk-iam-sasl-signer-python (or install csv2kafka with its extra: [msk-iam])",
        ) from None
    try:
        session = Session(profile=settings.profile)
        region = _region(bootstrap) or settings.region or session.get_config_variable("region")
        if region is None:
            raise ConfigError(
                "the AWS region of the MSK cluster is not known: no broker's name has it",
                hint="Give it with --region, or AWS_DEFAULT_REGION.",
            )
        credentials = _assumed(session, region, settings) if settings.role_arn else session.get_credentials()
        if credentials is None:
            raise Denied(
                "there are no AWS credentials to sign with for sasl.mechanism=AWS_MSK_IAM",
                hint="Give the task or instance a role, or set AWS_PROFILE, or --profile.",
            )
        text, expires_ms = Signer.generate_auth_token_from_credentials_provider(region, _Given(credentials))
    except HTTPClientError as error:
        raise KafkaUnavailable(
            f"AWS does not answer who signs for sasl.mechanism=AWS_MSK_IAM: {error}",
            hint="Check the network to AWS; then run the same command again.",
        ) from None
    except (BotoCoreError, ClientError) as error:
        raise Denied(
            f"AWS gives no credentials to sign with for sasl.mechanism=AWS_MSK_IAM: {error}",
            hint="Check the profile and the role; then run the same command again.",
        ) from None
    return Token(text, expires_ms / 1000 - time.time())


class _Given(CredentialProvider):
    """Credentials that are there already, as the signer takes them."""

    def __init__(self, credentials: Credentials) -> None:
        super().__init__()
        self._credentials = credentials

    def load(self) -> Credentials:
        return self._credentials


def _assumed(session: Session, region: str, settings: MskIamSettings) -> Credentials:
    sts: Any = session.create_client("sts", region_name=region)
    answer = sts.assume_role(RoleArn=settings.role_arn, RoleSessionName=settings.role_session_name)["Credentials"]
    return Credentials(answer["AccessKeyId"], answer["SecretAccessKey"], answer["SessionToken"])


def _region(bootstrap: str) -> str | None:
    found = _BROKER.search(bootstrap)
    return found[1] if found else None
