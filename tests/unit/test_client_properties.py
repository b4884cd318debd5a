"""Kafka's client properties: what each name means, what is refused and why, and that no secret gets out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from csv2kafka.errors import UsageError
from csv2kafka.kafka_settings import KafkaSettings
from csv2kafka.settings import RunSettings, load_run
from tests.support.environment import clear_options

SASL = {"security.protocol": "SASL_SSL", "sasl.mechanism": "PLAIN", "sasl.username": "ann", "sasl.password": "hunter2"}
# The checks look at the labels only; the key and the certificate need not be real.
LABEL = "-----{} {}-----\n"


@pytest.fixture(autouse=True)
def _no_options_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    clear_options(monkeypatch)


def load(**more: Any) -> RunSettings:
    return load_run({"source": "data.csv", "topic": "orders"}, bootstrap="b:1", **more)


def refusal(**more: Any) -> str:
    """The refusal's message and hint in one text."""
    with pytest.raises(UsageError) as caught:
        load(**more)
    return f"{caught.value.message} | {caught.value.hint}"


def pem(path: Path, *labels: str) -> str:
    path.write_text("".join(LABEL.format("BEGIN", label) + LABEL.format("END", label) for label in labels))
    return str(path)


class TestClientProperties:
    def test_an_unknown_one_names_the_nearest(self) -> None:
        text = refusal(properties={"sasl.mechanisms": "PLAIN"})
        assert text.startswith("-X sasl.mechanisms: ")
        assert "did you mean sasl.mechanism?" in text
        assert "known are: bootstrap.servers, " in refusal(properties={"zzz": "1"})

    @pytest.mark.parametrize(
        ("name", "value", "reason"),
        [
            ("acks", "1", "every in-sync replica"),
            ("acks", "0", "every in-sync replica"),
            ("enable.idempotence", "false", "write rows twice"),
            ("max.in.flight.requests.per.connection", "5", "order of the rows"),
            ("sasl.login.callback.handler.class", "com.example.Login", "no Java class is run here"),
            ("ssl.enabled.protocols", "TLSv1.1", "newest version of TLS"),
            ("transactional.id", "mine", "derives it"),
            ("linger.ms", "5", "nothing lingers"),
            ("security.protocol", "TLS", "one of PLAINTEXT, SSL, SASL_PLAINTEXT, SASL_SSL"),
            ("request.timeout.ms", "1s", "no number of milliseconds"),
            ("delivery.timeout.ms", "0", "no number of milliseconds"),
            ("compression.type", "producer", "is not supported"),
        ],
    )
    def test_what_contradicts_the_program_is_refused_with_the_reason(self, name: str, value: str, reason: str) -> None:
        text = refusal(properties={name: value})
        assert text.startswith(f"-X {name}")
        assert reason in text

    @pytest.mark.parametrize(
        ("name", "value"),
        [("acks", "all"), ("acks", "-1"), ("enable.idempotence", "TRUE"), ("ssl.truststore.type", "PEM")],
    )
    def test_what_the_program_does_anyway_may_be_said(self, name: str, value: str) -> None:
        assert load(properties={name: value}) == load()

    def test_a_stronger_place_corrects_a_weaker_one(self, tmp_path: Path) -> None:
        properties = tmp_path / "client.properties"
        properties.write_text("acks=1\n")
        assert f"{properties}: acks=1 is refused" in refusal(command_config=properties)
        load(properties={"acks": "all"}, command_config=properties)

    def test_deadlines_must_fit_each_other(self) -> None:
        assert "delivery.timeout.ms (10000) is shorter" in refusal(properties={"delivery.timeout.ms": "10000"})

    @pytest.mark.parametrize(
        ("mechanism", "module", "jaas"),
        [
            ("PLAIN", "plain.PlainLoginModule", 'username="ann" password="hun\\"ter2"'),
            ("SCRAM-SHA-512", "scram.ScramLoginModule", "\n  username='ann'\n  password='hun\\\"ter2'\n"),
            ("scram-sha-256", "scram.ScramLoginModule", 'serviceName=kafka username=ann password="hun\\"ter2"'),
        ],
    )
    def test_a_java_login_line(self, tmp_path: Path, mechanism: str, module: str, jaas: str) -> None:
        line = f"org.apache.kafka.common.security.{module} required {jaas};"
        properties = tmp_path / "client.properties"
        escaped = line.replace("\\", "\\\\").replace("\n", "\\n")
        properties.write_text(
            f"security.protocol=sasl_plaintext\nsasl.mechanism={mechanism}\nsasl.jaas.config={escaped}"
        )
        kafka = load(command_config=properties).kafka
        assert (kafka.sasl_username, kafka.sasl_mechanism) == ("ann", mechanism.upper())
        assert kafka.sasl_password == SecretStr('hun"ter2')

    @pytest.mark.parametrize(
        "jaas",
        [
            "nonsense hunter2",
            'a.b.PlainLoginModule required username="ann" password="hunter2"',
            'a.b.PlainLoginModule required username="ann" password="hunter2" hunter2;',
            'a.b.PlainLoginModule required password="hunter2";',
            'a.b.Krb5LoginModule required username="hunter2" password="hunter2";',
            'a.b.ScramLoginModule required username="ann" password="hunter2";',
        ],
    )
    def test_a_login_line_that_cannot_be_used(self, monkeypatch: pytest.MonkeyPatch, jaas: str) -> None:
        monkeypatch.setenv("KAFKA_SASL_JAAS_CONFIG", jaas)
        text = refusal(properties={"security.protocol": "SASL_SSL", "sasl.mechanism": "PLAIN"})
        assert "hunter2" not in text

    def test_the_environment_may_bring_the_password_alone(self, monkeypatch: pytest.MonkeyPatch) -> None:
        properties = {name: value for name, value in SASL.items() if name != "sasl.password"}
        assert "KAFKA_SASL_PASSWORD" in refusal(properties=properties)
        monkeypatch.setenv("KAFKA_SASL_PASSWORD", "hunter2")
        kafka = load(properties=properties).kafka
        assert kafka.sasl_password == SecretStr("hunter2")
        assert "hunter2" not in f"{kafka!r} {kafka} {kafka.model_dump()} {kafka.model_dump_json()}"

    @pytest.mark.parametrize("missing", ["sasl.mechanism", "sasl.username"])
    def test_half_a_login_is_refused(self, missing: str) -> None:
        assert missing in refusal(properties={name: value for name, value in SASL.items() if name != missing})

    def test_other_mechanisms_are_refused(self) -> None:
        assert "'GSSAPI' is not supported" in refusal(properties={**SASL, "sasl.mechanism": "GSSAPI"})

    @pytest.mark.parametrize("name", ["sasl.username", "ssl.ca.location"])
    def test_a_login_without_a_protocol_would_go_in_the_clear(self, name: str) -> None:
        assert "security.protocol is not" in refusal(properties={name: "x"})

    def test_what_the_protocol_has_no_use_for_is_left_out(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("KAFKA_SASL_PASSWORD", "hunter2")
        monkeypatch.setenv("KAFKA_SSL_CA_LOCATION", "/nowhere")
        assert load(properties={"security.protocol": "PLAINTEXT"}).kafka == KafkaSettings(bootstrap="b:1")


class TestTls:
    def test_java_and_librdkafka_names(self, tmp_path: Path) -> None:
        both = pem(tmp_path / "both.pem", "CERTIFICATE", "PRIVATE KEY")
        java = {"ssl.truststore.location": both, "ssl.keystore.location": both, "ssl.keystore.type": "PEM"}
        plain = {"ssl.ca.location": both, "ssl.certificate.location": both}
        settings = [load(properties={"security.protocol": "ssl", **names}) for names in (java, plain)]
        assert settings[0] == settings[1]
        assert (settings[0].kafka.ssl_cafile, settings[0].kafka.ssl_certfile) == (both, both)
        clash = {"security.protocol": "SSL", "ssl.ca.location": both, "ssl.truststore.location": "other"}
        assert "contradict" in refusal(properties=clash)

    def test_a_java_keystore_is_refused_with_the_way_to_convert_it(self, tmp_path: Path) -> None:
        store = tmp_path / "trust.jks"
        store.write_bytes(b"\xfe\xed\xfe\xed\x00\x00\x00\x02")
        text = refusal(properties={"security.protocol": "SSL", "ssl.truststore.location": str(store)})
        assert "is no PEM file" in text
        assert "keytool -list -rfc" in text

    def test_a_missing_file(self, tmp_path: Path) -> None:
        properties = {"security.protocol": "SSL", "ssl.ca.location": str(tmp_path / "none.pem")}
        assert "No such file" in refusal(properties=properties)

    def test_a_certificate_needs_its_key(self, tmp_path: Path) -> None:
        certificate = pem(tmp_path / "cert.pem", "CERTIFICATE")
        key = pem(tmp_path / "key.pem", "PRIVATE KEY")
        properties = {"security.protocol": "SSL", "ssl.certificate.location": certificate}
        assert "holds no private key" in refusal(properties=properties)
        assert load(properties={**properties, "ssl.key.location": key}).kafka.ssl_keyfile == key
        assert "needs a certificate" in refusal(properties={"security.protocol": "SSL", "ssl.key.location": key})

    def test_an_encrypted_key_needs_its_password(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        both = pem(tmp_path / "both.pem", "ENCRYPTED PRIVATE KEY", "CERTIFICATE")
        properties = {"security.protocol": "SSL", "ssl.keystore.location": both}
        assert "set KAFKA_SSL_KEY_PASSWORD" in refusal(properties=properties)
        monkeypatch.setenv("KAFKA_SSL_KEY_PASSWORD", "hunter2")
        assert load(properties=properties).kafka.ssl_password == SecretStr("hunter2")
