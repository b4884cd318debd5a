"""Login and TLS among the client properties: Java's names as people have them in their files, and Java's stores."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from csv2kafka.client_properties import split_flag
from csv2kafka.errors import ConfigError, UsageError
from csv2kafka.kafka.login import connection_options
from csv2kafka.kafka_settings import KafkaSettings
from csv2kafka.settings import RunSettings, StoreSettings, load_kafka, load_run
from tests.support.certificates import Authority
from tests.support.environment import clear_options

SECURITY = "org.apache.kafka.common.security"
OAUTH = """\
security.protocol=SASL_SSL
sasl.mechanism=OAUTHBEARER
sasl.oauthbearer.token.endpoint.url=https://idp.test/token
"""
BEARER = f"sasl.jaas.config={SECURITY}.oauthbearer.OAuthBearerLoginModule required"
MSK = "security.protocol=SASL_SSL\nsasl.mechanism=AWS_MSK_IAM\n"
IAM = "sasl.jaas.config=software.amazon.msk.auth.iam.IAMLoginModule required"
SSL = "security.protocol=SSL\n"


@pytest.fixture(autouse=True)
def _no_options_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    clear_options(monkeypatch)


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


class Properties:
    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self, text: str, **more: Any) -> KafkaSettings:
        self.path.write_text(text)
        return load_kafka(StoreSettings(**more), bootstrap="b:1", command_config=self.path)

    def refusal(self, text: str) -> str:
        with pytest.raises(UsageError) as refused:
            self.read(text)
        told = f"{refused.value.message} | {refused.value.hint}"
        assert "hunter2" not in told
        return told


@pytest.fixture
def properties(tmp_path: Path) -> Properties:
    return Properties(tmp_path / "client.properties")


class TestOAuth:
    def test_a_login_line(self, properties: Properties) -> None:
        line = 'clientId="c" clientSecret="hunter2" scope="a b" extension_logicalCluster="lkc-1"'
        kafka = properties.read(f"{OAUTH}{BEARER} {line};")
        oauth = kafka.oauth
        assert oauth is not None
        assert (oauth.token_url, oauth.client_id, oauth.scope) == ("https://idp.test/token", "c", "a b")
        assert oauth.client_secret == SecretStr("hunter2")
        assert oauth.extensions == {"logicalCluster": "lkc-1"}
        assert "hunter2" not in f"{kafka!r} {kafka.model_dump()} {kafka.model_dump_json()}"

    def test_properties_in_place_of_the_line(self, properties: Properties) -> None:
        prefix = "sasl.oauthbearer.client.credentials.client."
        text = f"{OAUTH}{prefix}id=c\n{prefix}secret=hunter2\nsasl.oauthbearer.scope=a b\n"
        line = 'clientId="c" clientSecret="hunter2" scope="a b"'
        assert properties.read(text) == properties.read(f"{OAUTH}{BEARER} {line};")
        assert "contradict" in properties.refusal(f'{text}{BEARER} clientSecret="another";')

    def test_the_file_that_vouches_for_the_endpoint(self, properties: Properties, authority: Authority) -> None:
        secret = 'clientId="c" clientSecret="hunter2"'
        plain = properties.read(f"{OAUTH}{BEARER} {secret};\nhttps.ca.location={authority.ca}\n")
        java = f'ssl.truststore.location="{authority.ca}" ssl.truststore.type="PEM"'
        assert properties.read(f"{OAUTH}{BEARER} {secret} {java};") == plain
        assert plain.oauth is not None
        assert plain.oauth.cafile == str(authority.ca)
        assert "only PEM" in properties.refusal(f"{OAUTH}{BEARER} {secret} {java.replace('PEM', 'JKS')};")
        assert "No such file" in properties.refusal(f"{OAUTH}{BEARER} {secret};\nhttps.ca.location=/nowhere\n")

    @pytest.mark.parametrize(
        ("text", "told"),
        [
            (OAUTH, "needs sasl.oauthbearer.client.credentials.client.id"),
            (f'{OAUTH}{BEARER} clientId="c";', "needs sasl.oauthbearer.client.credentials.client.secret"),
            (OAUTH.replace("https", "ftp") + f'{BEARER} clientId="c" clientSecret="hunter2";', "https://HOST/PATH"),
            (
                f'{OAUTH}{BEARER} unsecuredLoginStringClaim_sub="hunter2";',
                "StringClaim_sub has no meaning",
            ),
            (f"{OAUTH}{IAM};", "does not go with IAMLoginModule"),
            (f'{OAUTH}{BEARER} clientId="c" clientSecret="hunter2;', "cannot be read"),
        ],
    )
    def test_what_is_refused(self, properties: Properties, text: str, told: str) -> None:
        assert told in properties.refusal(text)

    def test_javas_own_handler_may_be_named(self, properties: Properties) -> None:
        text = f'{OAUTH}{BEARER} clientId="c" clientSecret="hunter2";\nsasl.login.callback.handler.class='
        for package in ("oauthbearer", "oauthbearer.secured"):
            assert properties.read(f"{text}{SECURITY}.{package}.OAuthBearerLoginCallbackHandler").oauth
        assert "no Java class is run here" in properties.refusal(f"{text}com.example.Login")


class TestMskIam:
    def test_as_awss_page_has_it(self, properties: Properties) -> None:
        handler = "sasl.client.callback.handler.class=software.amazon.msk.auth.iam.IAMClientCallbackHandler\n"
        msk = properties.read(f"{MSK}{IAM};\n{handler}", region="eu-west-3", profile="ours").msk_iam
        assert msk is not None
        assert (msk.region, msk.profile, msk.role_arn) == ("eu-west-3", "ours", None)

    def test_options_of_the_login_line(self, properties: Properties) -> None:
        line = f'{MSK}{IAM} awsProfileName="theirs" awsRoleArn="arn:x" awsRoleSessionName="me" awsDebugCreds="true";'
        msk = properties.read(line, profile="ours").msk_iam
        assert msk is not None
        assert (msk.profile, msk.role_arn, msk.role_session_name) == ("theirs", "arn:x", "me")
        assert "awsStsRegion has no meaning" in properties.refusal(f'{MSK}{IAM} awsStsRegion="hunter2";')

    def test_the_runs_region_and_profile_are_msks(self, tmp_path: Path) -> None:
        words = {"security.protocol": "SASL_SSL", "sasl.mechanism": "AWS_MSK_IAM"}
        flags = {"source": "data.csv", "topic": "t", "region": "eu-west-3", "profile": "ours"}
        run: RunSettings = load_run(flags, bootstrap="b:1", properties=words)
        assert run.kafka.msk_iam is not None
        assert (run.kafka.msk_iam.region, run.kafka.msk_iam.profile) == ("eu-west-3", "ours")


class TestTls:
    def test_pem_in_the_file_itself(self, properties: Properties, authority: Authority) -> None:
        """Its lines lose their ends in a properties file, where a backslash goes on with the next one."""
        own = authority.issue("loader", password=b"hunter2").read_text()
        key, separator, chain = own.partition("-----BEGIN CERT")
        texts = {"truststore.certificates": authority.ca.read_text(), "keystore.key": key}
        texts["keystore.certificate.chain"] = separator + chain
        lines = [f"ssl.{name}={text.strip()}\n".replace("\n", " \\\n")[:-3] for name, text in texts.items()]
        kafka = properties.read(SSL + "\n".join(lines) + "\nssl.key.password=hunter2\n")
        assert connection_options(kafka)["ssl_context"].get_ca_certs()
        assert "PRIVATE KEY" not in repr(kafka)
        wrong = kafka.model_copy(update={"ssl_password": SecretStr("another")})
        with pytest.raises(ConfigError, match="cannot be used"):
            connection_options(wrong)
        assert "set KAFKA_SSL_KEY_PASSWORD" in properties.refusal(SSL + "\n".join(lines))
        assert "needs a certificate" in properties.refusal(SSL + "\n".join(lines[:2]))
        assert "holds no private key" in properties.refusal(SSL + lines[2])
        assert "no PEM text" in properties.refusal(f"{SSL}ssl.truststore.certificates=/etc/ca.pem\n")

    def test_a_key_of_another_certificate(self, properties: Properties, authority: Authority) -> None:
        certificate, key = authority.issue("a"), authority.issue("b")
        kafka = properties.read(f"{SSL}ssl.certificate.location={certificate}\nssl.key.location={key}\n")
        with pytest.raises(ConfigError, match="cannot be used") as refused:
            connection_options(kafka)
        assert "that the key is the certificate's" in refused.value.hint

    @pytest.mark.parametrize(("value", "is_checked"), [("https", True), ("", False), ("none", False)])
    def test_the_host_name(self, properties: Properties, value: str, is_checked: bool) -> None:
        name = "ssl.endpoint.identification.algorithm"
        assert properties.read(f"{SSL}{name}={value}\n").ssl_check_hostname is is_checked
        assert "is not supported" in properties.refusal(f"{SSL}{name}=LDAPS\n")

    @pytest.mark.parametrize("end", ["truststore", "keystore"])
    def test_what_is_said_of_stores(self, properties: Properties, authority: Authority, end: str) -> None:
        place = f"{SSL}ssl.{end}.location={authority.issue('loader')}\n"
        assert properties.read(f"{place}ssl.{end}.type=PEM\n") == properties.read(place)
        assert "PEM" in properties.refusal(f"{place}ssl.{end}.type=JKS\n")
        assert "a PEM file has no password" in properties.refusal(f"{place}ssl.{end}.password=hunter2\n")


@pytest.mark.skipif(not (shutil.which("keytool") and shutil.which("openssl")), reason="needs keytool and openssl")
@pytest.mark.parametrize("kind", ["JKS", "PKCS12"])
class TestJavaStores:
    """The commands in the refusals are run as they stand, and what they make is read."""

    def test_a_truststore(self, properties: Properties, authority: Authority, tmp_path: Path, kind: str) -> None:
        store = tmp_path / "trust.jks"
        make = f"keytool -importcert -noprompt -file {authority.ca} -keystore {store} -storetype {kind}"
        run(f"{make} -storepass hunter2")
        text = f"{SSL}ssl.truststore.location={store}\nssl.truststore.type={kind}\nssl.truststore.password=hunter2\n"
        run(command_in(properties.refusal(text)).replace("-list", "-list -storepass hunter2"))
        kafka = properties.read(f"{SSL}ssl.truststore.location={store.with_suffix('.pem')}\n")
        assert len(connection_options(kafka)["ssl_context"].get_ca_certs()) == 1

    def test_a_keystore(self, properties: Properties, authority: Authority, tmp_path: Path, kind: str) -> None:
        p12, store = tmp_path / "made.p12", tmp_path / "own.jks"
        run(f"openssl pkcs12 -export -in {authority.issue('loader')} -out {p12} -passout pass:hunter2")
        source = f"-srckeystore {p12} -srcstorepass hunter2 -deststorepass hunter2"
        run(f"keytool -importkeystore {source} -destkeystore {store} -deststoretype {kind}")
        text = f"{SSL}ssl.keystore.location={store}\nssl.keystore.type={kind}\nssl.keystore.password=hunter2\n"
        command = command_in(properties.refusal(text)).replace("-in", "-passin pass:hunter2 -passout pass:hunter2 -in")
        run(command.replace("-importkeystore", "-importkeystore -srcstorepass hunter2 -deststorepass hunter2"))
        own = store.with_suffix(".pem")
        kafka = properties.read(f"{SSL}ssl.keystore.location={own}\nssl.key.password=hunter2\n")
        assert connection_options(kafka)["ssl_context"]


def command_in(refusal: str) -> str:
    return refusal.partition("convert it: ")[2].partition(" (")[0]


def run(command: str) -> None:
    subprocess.run(command, shell=True, check=True, capture_output=True)


@pytest.mark.parametrize(
    "name",
    [
        "sasl.jaas.config",
        "sasl.password",
        "sasl.oauthbearer.client.credentials.client.secret",
        "ssl.key.password",
        "ssl.keystore.key",
        "ssl.keystore.password",
        "ssl.truststore.password",
    ],
)
def test_no_secret_on_a_command_line(name: str) -> None:
    with pytest.raises(UsageError, match="secrets do not belong on a command line") as refused:
        split_flag(f"{name}=hunter2")
    assert "hunter2" not in f"{refused.value} {refused.value.hint}"
