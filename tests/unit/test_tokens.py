"""Tokens: kept while they are fresh, read without being believed, signed for AWS. A real broker is in tests/faults."""

from __future__ import annotations

import asyncio
import base64
import json
import sys
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
from moto import mock_aws
from pydantic import SecretStr

from csv2kafka import oauth
from csv2kafka.errors import ConfigError, Denied
from csv2kafka.kafka.login import Tokens, connection_options
from csv2kafka.kafka_settings import KafkaSettings, MskIamSettings, OAuthSettings
from csv2kafka.msk_iam import sign_token
from csv2kafka.oauth import Token
from tests.support.token_server import AUDIENCE, CLIENT_ID, CLIENT_SECRET, ISSUER, SUBJECT, TokenServer

BROKER = "b-1.demo.abc123.c2.kafka.eu-west-3.amazonaws.com:9098"


class Clock:
    now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


def test_a_token_is_kept_for_most_of_its_lifetime() -> None:
    clock = Clock()
    made = iter(Token(f"token {number}", lifetime_s=100) for number in range(9))

    async def main() -> None:
        tokens = Tokens(lambda: next(made), clock_s=clock)
        assert set(await asyncio.gather(*(tokens.token() for _ in range(5)))) == {"token 0"}
        clock.now_s += 79
        assert await tokens.token() == "token 0"
        clock.now_s += 2
        assert await tokens.token() == "token 1"
        clock.now_s += 79
        assert await tokens.token() == "token 1"

    asyncio.run(main())


class TestOAuth:
    def test_what_is_asked_and_what_comes(self) -> None:
        with TokenServer() as server:
            token = oauth.fetch_token(settings(server, scope="produce consume"))
            assert server.forms == [{"grant_type": ["client_credentials"], "scope": ["produce consume"]}]
            assert [token.text] == server.issued
        assert token.lifetime_s == 600
        assert token.text not in repr(token)

    def test_an_answer_that_does_not_say_how_long(self) -> None:
        with TokenServer() as server:
            server.answer = (200, json.dumps({"access_token": server.sign()}).encode(), {})
            assert 590 < oauth.fetch_token(settings(server)).lifetime_s <= 600
            server.answer = (200, b'{"access_token": "opaque"}', {})
            assert oauth.fetch_token(settings(server)).lifetime_s == 300

    def test_a_redirect_does_not_get_the_secret(self) -> None:
        with TokenServer() as server, TokenServer() as elsewhere:
            server.answer = (302, b"", {"Location": elsewhere.url})
            with pytest.raises(ConfigError, match="answers 302"):
                oauth.fetch_token(settings(server))
            assert elsewhere.forms == []

    def test_a_password_in_the_address_is_not_shown(self) -> None:
        with TokenServer() as server:
            server.answer = (404, b"", {})
            url = server.url.replace("://", "://ann:hunter2@") + "?key=hunter2"
            with pytest.raises(Exception, match="token endpoint") as refused:
                oauth.fetch_token(settings(server, token_url=url))
        assert "hunter2" not in f"{refused.value} {refused.value.hint}"  # type: ignore[attr-defined]

    def test_a_token_is_described(self) -> None:
        with TokenServer() as server:
            text = oauth.describe(server.sign())
        assert f'subject "{SUBJECT}", audience "{AUDIENCE}", issuer "{ISSUER}", scope "produce", expires 2' in text
        assert oauth.describe("opaque") == oauth.describe("a.b.c") == oauth.describe("") == ""

    def test_an_address_in_the_clear_is_warned_of(self, caplog: pytest.LogCaptureFixture) -> None:
        endpoint = OAuthSettings(token_url="http://idp/token", client_id="a", client_secret=SecretStr("b"))
        connection_options(KafkaSettings(bootstrap="b:1", sasl_mechanism="OAUTHBEARER", oauth=endpoint))
        assert "in the clear" in caplog.text


def settings(server: TokenServer, **more: object) -> OAuthSettings:
    fields = {"token_url": server.url, "client_id": CLIENT_ID, "client_secret": CLIENT_SECRET, **more}
    return OAuthSettings.model_validate(fields, strict=False)


class TestMskIam:
    def test_the_token_is_a_signed_request(self) -> None:
        token = sign_token(MskIamSettings(region="us-east-1"), BROKER)
        url = urlsplit(base64.urlsafe_b64decode(token.text + "=" * (-len(token.text) % 4)).decode())
        query = {name: values[0] for name, values in parse_qs(url.query).items()}
        assert (url.scheme, url.hostname) == ("https", "kafka.eu-west-3.amazonaws.com")
        assert query["Action"] == "kafka-cluster:Connect"
        assert query["X-Amz-Credential"].startswith("testing/")
        assert "/eu-west-3/kafka-cluster/" in query["X-Amz-Credential"]
        assert len(query["X-Amz-Signature"]) == 64
        assert int(query["X-Amz-Expires"]) - 2 <= token.lifetime_s <= int(query["X-Amz-Expires"])

    @pytest.mark.parametrize(
        ("bootstrap", "given", "region"),
        [
            ("boot-x.c1.kafka-serverless.ap-south-1.amazonaws.com:9098", None, "ap-south-1"),
            ("proxy:9098," + BROKER, "us-west-2", "eu-west-3"),
            ("proxy:9098", "us-west-2", "us-west-2"),
            ("proxy:9098", None, "us-east-1"),  # the environment's
        ],
    )
    def test_the_region(self, bootstrap: str, given: str | None, region: str) -> None:
        assert f"https://kafka.{region}.amazonaws.com/" in signed_url(MskIamSettings(region=given), bootstrap)

    def test_no_region(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("AWS_DEFAULT_REGION")
        with pytest.raises(ConfigError, match="region of the MSK cluster is not known") as refused:
            sign_token(MskIamSettings(), "proxy:9098")
        assert "--region" in refused.value.hint

    def test_a_profile(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        path = tmp_path / "credentials"
        path.write_text("[loader]\naws_access_key_id = ours\naws_secret_access_key = hunter2\n")
        monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(path))
        assert "X-Amz-Credential=ours%2F" in signed_url(MskIamSettings(profile="loader"), BROKER)
        with pytest.raises(Denied, match="nobody") as refused:
            sign_token(MskIamSettings(profile="nobody"), BROKER)
        assert "Check the profile" in refused.value.hint

    def test_a_role(self) -> None:
        with mock_aws():  # whose role sessions have keys of their own
            url = signed_url(MskIamSettings(role_arn="arn:aws:iam::123456789012:role/loader"), BROKER)
        assert "X-Amz-Credential=testing" not in url
        assert "X-Amz-Security-Token=" in url

    def test_no_credentials(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
            monkeypatch.delenv(name)
        monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
        monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
        with pytest.raises(Denied, match="no AWS credentials") as refused:
            sign_token(MskIamSettings(), BROKER)
        assert "AWS_PROFILE" in refused.value.hint

    def test_without_the_extra(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "aws_msk_iam_sasl_signer", None)
        with pytest.raises(ConfigError, match="is not installed") as refused:
            sign_token(MskIamSettings(), BROKER)
        assert refused.value.hint.startswith("pip install aws-msk-iam-sasl-signer-python")

    def test_a_connection_gets_tokens_that_are_made_anew_in_time(self, monkeypatch: pytest.MonkeyPatch) -> None:
        kafka = KafkaSettings(bootstrap=BROKER, sasl_mechanism="AWS_MSK_IAM", msk_iam=MskIamSettings())
        options = connection_options(kafka)
        assert options["sasl_mechanism"] == "OAUTHBEARER"
        clock = Clock()
        tokens = options["sasl_oauth_token_provider"]
        monkeypatch.setattr(tokens, "_clock_s", clock)

        async def main() -> list[str]:
            found = []
            for passed_s in (0, 600, 300):  # of 900 s
                clock.now_s += passed_s
                monkeypatch.setenv("AWS_ACCESS_KEY_ID", f"key{passed_s}")
                found.append(await tokens.token())
            return found

        first, second, third = asyncio.run(main())
        assert first == second != third


def signed_url(settings: MskIamSettings, bootstrap: str) -> str:
    text = sign_token(settings, bootstrap).text
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)).decode()
