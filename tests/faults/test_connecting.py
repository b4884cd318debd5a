"""Every way of docs/CONNECTING.md into a real broker: a load gets through, exactly once, and no secret gets out."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from confluent_kafka.admin import ResourceType  # type: ignore[attr-defined]

from csv2kafka.checkpoints.sqlite import SqliteStore
from csv2kafka.jobs import Parts
from csv2kafka.kafka.sender import Sender
from csv2kafka.model import Batch
from tests.support.admin import create_topic
from tests.support.cli_load import ROWS, SMALL_BATCHES, CliLoad
from tests.support.client_files import DOORS, SECRETS, documented
from tests.support.loads import Load, write_csv
from tests.support.oracle import read_topic
from tests.support.processes import Children
from tests.support.secured_broker import PASSWORD, USER, Grant, SecuredBroker

pytestmark = [pytest.mark.integration, pytest.mark.kafka]

MSK = "Amazon MSK with IAM: AWS_MSK_IAM"
BRIEF_SESSION_S = 1.0  # connections.max.reauth.ms of the listener


def granted_topic(secured: SecuredBroker) -> str:
    """A new topic where the user may do what a load needs, and nothing else."""
    topic = create_topic(secured.open_bootstrap, config=SMALL_BATCHES)
    secured.grant(
        *(Grant(operation, ResourceType.TOPIC, topic) for operation in ("WRITE", "READ", "DESCRIBE_CONFIGS")),
        Grant("WRITE", ResourceType.TRANSACTIONAL_ID, f"csv2kafka:job:{topic}"),
    )
    return topic


def load_with(secured: SecuredBroker, children: Children, folder: Path, properties: str) -> CliLoad:
    topic = granted_topic(secured)
    path = folder / "client.properties"
    path.write_text(properties)
    address = next(line for line in properties.splitlines() if line.startswith("bootstrap")).partition("=")[2]
    options = ("--command-config", str(path), "-v")
    return CliLoad(children, address, topic, folder, options=options, oracle_bootstrap=secured.open_bootstrap)


@pytest.mark.parametrize("heading", [heading for heading in DOORS if heading != MSK])
def test_a_documented_file(secured: SecuredBroker, children: Children, tmp_path: Path, heading: str) -> None:
    """Killed, and resumed, with the file of the page; its secrets are nowhere but in that file."""
    load = load_with(secured, children, tmp_path, documented(heading, secured))
    with load.paused_at("batch_acked", 3) as process:
        seen = Path(f"/proc/{process.pid}/cmdline").read_bytes()
        process.kill()
    before = load.wait()
    ended = load.run()
    assert ended.returncode == 0, ended
    load.assert_exact()
    secrets = (*SECRETS, *(token.rpartition(".")[2] for token in secured.tokens.issued))
    texts = [before.stdout, before.stderr, ended.stdout, ended.stderr, seen.decode()]
    texts += [path.read_bytes().decode("latin-1") for path in tmp_path.glob("checkpoints.db*")]
    assert [secret for secret in secrets for text in texts if secret in text] == []


def test_a_token_of_aws_reaches_the_broker(secured: SecuredBroker, children: Children, tmp_path: Path) -> None:
    """Which knows no AWS, and says that this token is none that it takes."""
    load = load_with(secured, children, tmp_path, documented(MSK, secured))
    ended = load.run("--region", "eu-west-3", env={"SSL_CERT_FILE": str(secured.authority.ca)})
    ended.assert_failed(77, "refuses the token that was signed with AWS credentials: invalid_token")


class WaitingSender(Sender):
    """Lets its session run out twice."""

    retries_seen = 0
    given = 0

    def can_send(self, batch: Batch) -> bool:
        self.given += 1
        if self.given in (3, 9):
            time.sleep(1.2 * BRIEF_SESSION_S)  # it is the time that ends it
        WaitingSender.retries_seen = self.retries
        return super().can_send(batch)


def test_a_session_that_ends(secured: SecuredBroker, tmp_path: Path) -> None:
    """The broker hangs up on whoever did not log in anew in time; the same bytes go out again, and count once."""
    topic = granted_topic(secured)
    values = write_csv(tmp_path / "data.csv", ROWS)
    login = {
        "security_protocol": "SASL_SSL",
        "sasl_mechanism": "SCRAM-SHA-256",
        "sasl_username": USER,
        "sasl_password": PASSWORD,
        "ssl_cafile": str(secured.authority.ca),
    }
    load = Load(secured.addresses["BRIEF"], tmp_path / "data.csv", topic, tmp_path / "checkpoints.db")
    store = SqliteStore(load.checkpoints)
    receipt = load.run(Parts(store=store, sender_factory=WaitingSender), kafka=login)
    assert WaitingSender.retries_seen == 2
    assert receipt.takeovers == 1
    assert read_topic(secured.open_bootstrap, topic) == values


def test_a_token_that_runs_out(secured: SecuredBroker, children: Children, tmp_path: Path) -> None:
    """The session ends with it, and a new connection gets a new one."""
    load = load_with(secured, children, tmp_path, documented("OAuth: OAUTHBEARER", secured))
    secured.tokens.reset()
    secured.tokens.lifetime_s = 2
    try:
        for _ in load.pauses("batch_sending:3"):
            assert len(secured.tokens.issued) == 1
            time.sleep(1.2 * secured.tokens.lifetime_s)
        ended = load.wait()
    finally:
        secured.tokens.lifetime_s = 600
    assert ended.returncode == 0, ended
    assert len(secured.tokens.issued) == 2
    load.assert_exact()


def test_a_token_endpoint_that_is_away_mid_run(secured: SecuredBroker, children: Children, tmp_path: Path) -> None:
    load = load_with(secured, children, tmp_path, documented("OAuth: OAUTHBEARER", secured))
    secured.tokens.reset()
    secured.tokens.lifetime_s = 2
    try:
        for _ in load.pauses("batch_sending:3"):
            secured.tokens.answer = (503, b"", {})
            time.sleep(1.2 * secured.tokens.lifetime_s)
        secured.tokens.wait_for_refusals(2)
        secured.tokens.reset()
        ended = load.wait()
    finally:
        secured.tokens.reset()
    assert ended.returncode == 0, ended
    load.assert_exact()
