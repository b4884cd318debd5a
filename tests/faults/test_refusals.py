"""What a real broker does not take: each time the error says what is wrong, where, and what to do; and no secret."""

from __future__ import annotations

import asyncio
import re
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from csv2kafka.errors import Csv2KafkaError
from csv2kafka.kafka.client import Client
from csv2kafka.settings import StoreSettings, load_kafka
from tests.support.certificates import Authority
from tests.support.client_files import documented
from tests.support.environment import clear_options
from tests.support.secured_broker import PASSWORD, USER, SecuredBroker
from tests.support.tcp_proxy import TcpProxy
from tests.support.token_server import CLIENT_SECRET

pytestmark = [pytest.mark.integration, pytest.mark.kafka]

DENIED, CONFIGURATION, TRY_AGAIN = 77, 78, 75
OAUTH = "OAuth: OAUTHBEARER"
SECRETS = ("wrong-one", PASSWORD, CLIENT_SECRET)


@pytest.fixture(autouse=True)
def _no_options_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    clear_options(monkeypatch)


@pytest.fixture
def door(secured: SecuredBroker, tmp_path: Path) -> Iterator[Door]:
    secured.tokens.reset()
    yield Door(secured, tmp_path)
    secured.tokens.reset()  # others may come to the same broker


class Door:
    """Comes to a listener with client properties, and is not let in."""

    def __init__(self, secured: SecuredBroker, folder: Path) -> None:
        self.secured = secured
        self.folder = folder
        self.trust = f"ssl.truststore.location={secured.authority.ca}\n"

    def login(self, mechanism: str, user: str = USER, password: str = PASSWORD) -> str:
        return (
            f"{self.trust}security.protocol=SASL_SSL\nsasl.mechanism={mechanism}\nsasl.username={user}\n"
            f"sasl.password={password}\n"
        )

    def tls(self, more: str = "") -> str:
        return f"{self.trust}security.protocol=SSL\n{more}"

    def refuses(self, listener: str, properties: str, exit_code: int, *words: str) -> None:
        """The words are in message and hint, the address as well (where the broker's is meant)."""
        address = self.secured.addresses.get(listener, listener)
        path = self.folder / "client.properties"
        path.write_text(properties)
        settings = load_kafka(StoreSettings(), bootstrap=address, command_config=path)

        async def come() -> None:
            async with Client(settings):
                pass

        with pytest.raises(Csv2KafkaError) as refused:
            asyncio.run(come())
        error = refused.value
        text = f"{error.message} | {error.hint}"
        print(f"{error.exit_code} {text}")  # pytest shows it where the test fails, and all of them with -s
        assert error.exit_code == exit_code, text
        assert error.hint
        assert [word for word in words if word not in text] == [], text
        assert [secret for secret in SECRETS if secret in text] == [], text


@pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"])
def test_a_wrong_password_and_an_unknown_user(door: Door, mechanism: str) -> None:
    words = f"({mechanism})", "uthentication failed", door.secured.addresses["LOGIN"], "Check user, password"
    door.refuses("LOGIN", door.login(mechanism, password="wrong-one"), DENIED, f"refuses user {USER}", *words)
    door.refuses("LOGIN", door.login(mechanism, user="nobody"), DENIED, "refuses user nobody", *words)


def _other_signature(said: bytes) -> bytes:
    """The broker's last word in SCRAM, signed by somebody who has another password."""
    return re.sub(rb"(?<=v=)[A-Za-z0-9+/]{43,}", lambda own: b"A" * len(own[0]), said)


@pytest.mark.parametrize(
    ("mechanism", "forge"),
    [
        ("SCRAM-SHA-256", _other_signature),
        ("SCRAM-SHA-512", _other_signature),
        ("SCRAM-SHA-256", lambda said: said.replace(b"v=", b"w=")),  # none at all
        ("SCRAM-SHA-256", lambda said: re.sub(rb"r=.", b"r=!", said)),  # an answer to somebody else
    ],
)
def test_a_server_that_does_not_know_the_password(door: Door, mechanism: str, forge: Callable[[bytes], bytes]) -> None:
    """It takes whatever the client gives as a proof, and has none of its own."""
    login = door.login(mechanism).replace("SASL_SSL", "SASL_PLAINTEXT")
    with TcpProxy(int(door.secured.addresses["BARE_LOGIN"].rpartition(":")[2])) as proxy:
        proxy.forge = forge
        address = f"127.0.0.1:{proxy.port}"
        untrusted = f"{address} is not to be trusted: it does not prove that it knows the password of user {USER}"
        door.refuses(address, login, DENIED, untrusted, f"({mechanism})", "check the address (-b)", "SASL_SSL")


def test_a_mechanism_that_is_not_offered(door: Door) -> None:
    login = door.login("SCRAM-SHA-512")
    offered = "one that it offers: SCRAM-SHA-256"
    door.refuses("BRIEF", login, DENIED, "does not offer this SASL mechanism (SCRAM-SHA-512)", offered)


def test_a_server_certificate_that_has_expired(door: Door) -> None:
    at = door.secured.addresses["EXPIRED"]
    door.refuses("EXPIRED", door.tls(), CONFIGURATION, f"certificate of {at} is refused", "expired", "renewed")


def test_a_server_certificate_of_an_unknown_authority(door: Door) -> None:
    other = Authority(door.folder, "other")
    for trust in (f"ssl.truststore.location={other.ca}\n", ""):  # "": the system's
        properties = f"security.protocol=SSL\n{trust}"
        door.refuses("TLS", properties, CONFIGURATION, "local issuer certificate", "ssl.truststore.location")


def test_a_server_certificate_for_another_host(door: Door) -> None:
    door.refuses("OTHERS", door.tls(), CONFIGURATION, "IP address mismatch", "advertised.listeners", "(empty)")


def test_the_check_of_the_name_can_be_given_up(door: Door, caplog: pytest.LogCaptureFixture) -> None:
    path = door.folder / "client.properties"
    path.write_text(door.tls("ssl.endpoint.identification.algorithm=\n"))

    async def come() -> None:
        settings = load_kafka(StoreSettings(), bootstrap=door.secured.addresses["OTHERS"], command_config=path)
        async with Client(settings):
            pass

    asyncio.run(come())
    assert "passes for the broker" in caplog.text


def test_no_certificate_of_the_client(door: Door) -> None:
    door.refuses("MUTUAL", door.tls(), DENIED, "wants a certificate of this client, and none is given", "keystore")


def test_a_client_certificate_that_has_expired(door: Door) -> None:
    own = door.secured.authority.issue(USER, days=-2)
    keystore = f"ssl.keystore.location={own}\n"
    door.refuses("MUTUAL", door.tls(keystore), DENIED, f"refuses this client's certificate {own}", "expired")


def test_a_client_certificate_of_an_unknown_authority(door: Door) -> None:
    own = Authority(door.folder, "other").issue(USER)
    keystore = f"ssl.keystore.location={own}\n"
    door.refuses("MUTUAL", door.tls(keystore), DENIED, str(own), "no authority that the broker trusts has signed it")


@pytest.mark.parametrize(
    ("listener", "spoken"),
    [("TLS", "SSL"), ("MUTUAL", "SSL"), ("LOGIN", "SASL_SSL"), ("GUARDED", "SASL_PLAINTEXT")],
)
def test_plaintext_to_another_port(door: Door, listener: str, spoken: str) -> None:
    wrong = f"{door.secured.addresses[listener]} speaks {spoken}, but security.protocol is PLAINTEXT"
    door.refuses(listener, "", CONFIGURATION, wrong, f"Set security.protocol={spoken}")


@pytest.mark.parametrize("protocol", ["SSL", "SASL_SSL", "SASL_PLAINTEXT"])
def test_something_else_to_a_plaintext_port(door: Door, protocol: str) -> None:
    properties = door.login("PLAIN").replace("SASL_SSL", protocol)
    wrong = f"speaks PLAINTEXT, but security.protocol is {protocol}"
    door.refuses(door.secured.open_bootstrap, properties, CONFIGURATION, wrong, "Set security.protocol=PLAINTEXT")


def test_tls_alone_where_a_login_is_wanted(door: Door) -> None:
    wanted = "with sasl.mechanism one of PLAIN, SCRAM-SHA-256, SCRAM-SHA-512"
    door.refuses("LOGIN", door.tls(), CONFIGURATION, "speaks SASL_SSL, but security.protocol is SSL", wanted)


def test_a_token_endpoint_that_refuses_the_client(door: Door) -> None:
    properties = documented(OAUTH, door.secured).replace(CLIENT_SECRET, "wrong-one")
    place = f"the token endpoint {door.secured.tokens.url} refuses client loader-client: invalid_client"
    door.refuses("TOKEN", properties, DENIED, place, "(401)", "Check clientId, clientSecret and scope")


@pytest.mark.parametrize(
    ("answer", "exit_code", "words"),
    [
        ((503, b"", {}), TRY_AGAIN, "answers 503 Service Unavailable"),
        ((404, b"<html>", {}), CONFIGURATION, "answers 404 Not Found"),
        ((302, b"", {"Location": "http://127.0.0.1:1/"}), CONFIGURATION, "answers 302 Found"),
        ((200, b"<html>", {}), CONFIGURATION, "holds no access_token"),
    ],
)
def test_other_answers_of_a_token_endpoint(
    door: Door, answer: tuple[int, bytes, dict[str, str]], exit_code: int, words: str
) -> None:
    door.secured.tokens.answer = answer
    hint = "Check sasl.oauthbearer.token.endpoint.url"
    door.refuses("TOKEN", documented(OAUTH, door.secured), exit_code, door.secured.tokens.url, words, hint)


def test_a_token_endpoint_that_nobody_vouches_for(door: Door) -> None:
    properties = documented(OAUTH, door.secured).replace("https.ca.location", "#")
    door.refuses("TOKEN", properties, CONFIGURATION, "certificate of the token endpoint", "https.ca.location")


def test_a_token_endpoint_that_is_not_there(door: Door) -> None:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        nobody = f"https://127.0.0.1:{held.getsockname()[1]}/token"
        properties = documented(OAUTH, door.secured).replace(door.secured.tokens.url, nobody)
        door.refuses("TOKEN", properties, TRY_AGAIN, f"token endpoint {nobody} does not answer", "refused")


@pytest.mark.parametrize(
    ("claims", "told"),
    [
        ({"aud": "others"}, 'audience "others"'),
        ({"iss": "https://others.test"}, 'issuer "https://others.test"'),
        ({"exp": 1_700_000_000}, "expired 2023-11-14T22:13:20Z"),
    ],
)
def test_a_token_that_the_broker_refuses(door: Door, claims: dict[str, object], told: str) -> None:
    door.secured.tokens.claims = claims
    at = door.secured.addresses["TOKEN"]
    words = f"{at} refuses the token: invalid_token (it says: subject", told, "expected.audience"
    door.refuses("TOKEN", documented(OAUTH, door.secured), DENIED, *words)
